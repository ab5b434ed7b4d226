-- current_localtime() -> TIME
-- The same as get_current_time(); localtime is it as well.
CREATE MACRO current_localtime() AS CAST(lakeflight_us(CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS)) AS TIME);
