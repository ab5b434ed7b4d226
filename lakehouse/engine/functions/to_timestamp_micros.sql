-- to_timestamp_micros(microseconds BIGINT) -> TIMESTAMP_NS
-- The time that is so many microseconds after 1970.
-- list: datetime
-- example: to_timestamp_micros(1767225600000001) = 2026-01-01 00:00:00.000001
CREATE MACRO to_timestamp_micros(s) AS make_timestamp_ns(CAST(s AS BIGINT) * 1000);
