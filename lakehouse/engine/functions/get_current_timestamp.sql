-- get_current_timestamp() -> TIMESTAMP_NS
-- The same as now().
CREATE MACRO get_current_timestamp() AS CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS);
