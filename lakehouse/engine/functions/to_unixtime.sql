-- to_unixtime(time TIMESTAMP_NS) -> BIGINT
-- The whole seconds since 1970 of a time.
-- list: datetime
-- example: to_unixtime(TIMESTAMP_NS '2026-01-01 00:00:00.999999999') = 1767225600
CREATE MACRO to_unixtime(t) AS epoch_ns(CAST(t AS TIMESTAMP_NS)) // 1000000000;
