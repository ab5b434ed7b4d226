-- today() -> DATE
-- The day, in UTC, on which the statement began.
CREATE MACRO today() AS CAST(lakeflight_us(CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS)) AS DATE);
