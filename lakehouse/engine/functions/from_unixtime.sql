-- from_unixtime(seconds BIGINT) -> TIMESTAMP_NS
-- The time that is so many seconds after 1970.
-- list: datetime
-- example: from_unixtime(1767225600) = 2026-01-01 00:00:00
CREATE MACRO from_unixtime(s) AS make_timestamp_ns(CAST(s AS BIGINT) * 1000000000);
