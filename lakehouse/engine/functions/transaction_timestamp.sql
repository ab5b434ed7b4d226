-- transaction_timestamp() -> TIMESTAMP_NS
-- The moment at which the statement began, UTC; it stands still while the statement runs, and so do bounds made of it.
-- Keywords such as current_timestamp arrive here too. The engine's own cannot be compared with the time columns.
CREATE MACRO transaction_timestamp() AS CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS);
