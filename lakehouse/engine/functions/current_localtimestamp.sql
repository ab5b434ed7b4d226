-- current_localtimestamp() -> TIMESTAMP_NS
-- The same as now().
CREATE MACRO current_localtimestamp() AS CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS);
