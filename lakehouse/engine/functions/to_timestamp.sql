-- to_timestamp(value ANY) -> TIMESTAMP_NS
-- The time that a text says, to the nanosecond, in UTC; or that is so many seconds after 1970.
-- list: datetime
-- example: to_timestamp('2026-01-31T12:00:00.123456789Z') = 2026-01-31 12:00:00.123456789
-- example: to_timestamp(1767225600) = 2026-01-01 00:00:00
-- example: to_timestamp(1.5) = 1970-01-01 00:00:01.5
CREATE MACRO to_timestamp(t) AS
    list_transform([t], lambda v: CASE
        WHEN typeof(v) IN ('TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT') THEN make_timestamp_ns(CAST(v AS BIGINT) * 1000000000)
        WHEN typeof(v) IN ('FLOAT', 'DOUBLE') OR typeof(v) LIKE 'DECIMAL%' THEN make_timestamp_ns(CAST(CAST(v AS DECIMAL(38, 9)) * 1000000000 AS BIGINT))
        WHEN typeof(v) LIKE 'TIMESTAMP%' OR typeof(v) = 'DATE' THEN CAST(v AS TIMESTAMP_NS)
        ELSE CAST(lakeflight_zoneless(CAST(v AS VARCHAR)) AS TIMESTAMP_NS)
    END)[1];
