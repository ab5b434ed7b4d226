-- lakeflight_age(first TIMESTAMP_NS, second TIMESTAMP_NS) -> INTERVAL
-- What age says of two moments, in whole microseconds.
-- example: lakeflight_age(TIMESTAMP_NS '2026-02-01 00:00:00.0000004', TIMESTAMP_NS '2026-01-01 00:00:00.0000005') = 30 days 23:59:59.999999
CREATE MACRO lakeflight_age(a, b) AS
    list_transform(
        [struct_pack(a := a, b := b)],
        lambda of: CASE
            WHEN of.a >= of.b
            THEN age(lakeflight_floor(of.a) - to_microseconds(CAST(lakeflight_rest(of.a) < lakeflight_rest(of.b) AS BIGINT)), lakeflight_floor(of.b))
            ELSE age(lakeflight_floor(of.a), lakeflight_floor(of.b) - to_microseconds(CAST(lakeflight_rest(of.b) < lakeflight_rest(of.a) AS BIGINT)))
        END
    )[1];
