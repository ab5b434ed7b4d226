-- to_timestamp_nanos(nanoseconds BIGINT) -> TIMESTAMP_NS
-- The time that is so many nanoseconds after 1970.
-- list: datetime
-- example: to_timestamp_nanos(1767225600000000001) = 2026-01-01 00:00:00.000000001
CREATE MACRO to_timestamp_nanos(s) AS make_timestamp_ns(CAST(s AS BIGINT));
