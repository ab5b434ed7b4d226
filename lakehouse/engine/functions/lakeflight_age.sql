-- lakeflight_age(first TIMESTAMP_NS, second TIMESTAMP_NS) -> INTERVAL
-- What age says of two moments, in whole microseconds.
-- example: lakeflight_age(TIMESTAMP_NS '2026-02-01 00:00:00.0000004', TIMESTAMP_NS '2026-01-01 00:00:00.0000005') = 30 days 23:59:59.999999
CREATE MACRO lakeflight_age(a, b) AS
    CASE
        WHEN a >= b
        THEN age(lakeflight_us(a) - to_microseconds(CAST(lakeflight_rest(a) < lakeflight_rest(b) AS BIGINT)), lakeflight_us(b))
        ELSE age(lakeflight_us(a), lakeflight_us(b) - to_microseconds(CAST(lakeflight_rest(b) < lakeflight_rest(a) AS BIGINT)))
    END;
