-- to_timestamp_millis(milliseconds BIGINT) -> TIMESTAMP_NS
-- The time that is so many milliseconds after 1970.
-- list: datetime
-- example: to_timestamp_millis(1767225600001) = 2026-01-01 00:00:00.001
CREATE MACRO to_timestamp_millis(s) AS make_timestamp_ns(CAST(s AS BIGINT) * 1000000);
