-- get_current_time() -> TIME
-- The time of the day, in UTC, at which the statement began; current_time is the same.
CREATE MACRO get_current_time() AS CAST(lakeflight_us(CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS)) AS TIME);
