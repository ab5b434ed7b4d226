-- transaction_timestamp() -> TIMESTAMP_NS
-- The same as now().
CREATE MACRO transaction_timestamp() AS CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS);
