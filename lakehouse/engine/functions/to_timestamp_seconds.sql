-- to_timestamp_seconds(seconds BIGINT) -> TIMESTAMP_NS
-- The time that is so many seconds after 1970.
-- list: datetime
-- example: to_timestamp_seconds(1767225600) = 2026-01-01 00:00:00
CREATE MACRO to_timestamp_seconds(s) AS make_timestamp_ns(CAST(s AS BIGINT) * 1000000000);
