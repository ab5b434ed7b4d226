-- lakeflight_apart(left TIMESTAMP_NS, right TIMESTAMP_NS) -> INTERVAL
-- What lakeflight_difference gives, of two moments that are names, which may stand in it as often as one likes.
-- example: lakeflight_apart(TIMESTAMP_NS '2026-01-01 00:00:00.000001', TIMESTAMP_NS '2026-01-01 00:00:00.0000001') = 00:00:00
-- example: lakeflight_apart(TIMESTAMP_NS '2026-01-01 00:00:00.0000001', TIMESTAMP_NS '2026-01-01 00:00:00.000002') = -00:00:00.000001
CREATE MACRO lakeflight_apart(a, b) AS
    CASE
        WHEN a >= b
        THEN (lakeflight_floor(a) - to_microseconds(CAST(lakeflight_rest(a) < lakeflight_rest(b) AS BIGINT))) - lakeflight_floor(b)
        ELSE lakeflight_floor(a) - (lakeflight_floor(b) - to_microseconds(CAST(lakeflight_rest(b) < lakeflight_rest(a) AS BIGINT)))
    END;
