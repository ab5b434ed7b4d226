-- lakeflight_difference(left TIMESTAMP_NS, right TIMESTAMP_NS) -> INTERVAL
-- How long it is from right to left, in the whole microseconds that an interval counts.
-- example: lakeflight_difference(TIMESTAMP_NS '2026-01-01 00:00:00.000001', TIMESTAMP_NS '2026-01-01 00:00:00.0000001') = 00:00:00
CREATE MACRO lakeflight_difference(a, b) AS
    CASE
        WHEN a >= b
        THEN (lakeflight_us(a) - to_microseconds(CAST(lakeflight_rest(a) < lakeflight_rest(b) AS BIGINT))) - lakeflight_us(b)
        ELSE lakeflight_us(a) - (lakeflight_us(b) - to_microseconds(CAST(lakeflight_rest(b) < lakeflight_rest(a) AS BIGINT)))
    END;
