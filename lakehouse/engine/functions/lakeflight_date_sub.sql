-- lakeflight_date_sub(part VARCHAR, first TIMESTAMP_NS, second TIMESTAMP_NS) -> BIGINT
-- Whole parts between two moments; a part is over when its last nanosecond is.
-- example: lakeflight_date_sub('hour', TIMESTAMP_NS '2026-01-01 00:00:00.0000005', TIMESTAMP_NS '2026-01-01 01:00:00.0000004') = 0
CREATE MACRO lakeflight_date_sub(part, a, b) AS
    CASE
        WHEN b >= a
        THEN date_sub(part, lakeflight_us(a), lakeflight_us(b) - to_microseconds(CAST(lakeflight_rest(b) < lakeflight_rest(a) AS BIGINT)))
        ELSE date_sub(part, lakeflight_us(a) - to_microseconds(CAST(lakeflight_rest(a) < lakeflight_rest(b) AS BIGINT)), lakeflight_us(b))
    END;
