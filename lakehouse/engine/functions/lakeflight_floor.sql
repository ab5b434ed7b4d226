-- lakeflight_floor(moment TIMESTAMP_NS) -> TIMESTAMP
-- What lakeflight_us gives, for the lambdas that it and others are made of: the name of a moment, which stands in it often.
-- An argument of a user's would be computed as often, each time anew: by them it is computed once.
-- example: lakeflight_floor(TIMESTAMP_NS '1969-12-31 23:59:59.9999996') = 1969-12-31 23:59:59.999999
CREATE MACRO lakeflight_floor(t) AS
    CASE
        WHEN t >= TIMESTAMP_NS 'infinity' THEN TIMESTAMP 'infinity'
        WHEN t <= TIMESTAMP_NS '-infinity' THEN TIMESTAMP '-infinity'
        ELSE make_timestamp(epoch_ns(t) // 1000 - CAST(epoch_ns(t) % 1000 < 0 AS BIGINT))
    END;
