-- current_date() -> DATE
-- The day, in UTC, on which the statement began.
CREATE MACRO current_date() AS CAST(lakeflight_us(CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS)) AS DATE);
