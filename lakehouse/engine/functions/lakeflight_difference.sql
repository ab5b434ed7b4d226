-- lakeflight_difference(left TIMESTAMP_NS, right TIMESTAMP_NS) -> INTERVAL
-- How long it is from right to left, in the whole microseconds that an interval counts.
-- example: lakeflight_difference(TIMESTAMP_NS '2026-01-01 00:00:00.000001', TIMESTAMP_NS '2026-01-01 00:00:00.0000001') = 00:00:00
CREATE MACRO lakeflight_difference(a, b) AS
    list_transform(
        [struct_pack(a := a, b := b)],
        lambda of: CASE
            WHEN of.a >= of.b
            THEN (lakeflight_floor(of.a) - to_microseconds(CAST(lakeflight_rest(of.a) < lakeflight_rest(of.b) AS BIGINT))) - lakeflight_floor(of.b)
            ELSE lakeflight_floor(of.a) - (lakeflight_floor(of.b) - to_microseconds(CAST(lakeflight_rest(of.b) < lakeflight_rest(of.a) AS BIGINT)))
        END
    )[1];
