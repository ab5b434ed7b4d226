-- lakeflight_count(value TIMESTAMP_NS) -> BIGINT
-- What CAST(… AS BIGINT) is of anything, and the nanoseconds of a time or of a difference of times, which the engine refuses.
-- For columns: an argument stands in it several times.
-- example: lakeflight_count(TIMESTAMP_NS '2026-01-01 00:00:00.000000001') = 1767225600000000001
-- example: lakeflight_count(INTERVAL 1 SECOND) = 1000000000
-- example: lakeflight_count('77') = 77
CREATE MACRO lakeflight_count(x) AS
    CASE
        WHEN typeof(x) = 'INTERVAL' THEN epoch_ns(CAST(x AS INTERVAL))
        WHEN typeof(x) IN ('TIMESTAMP_NS', 'TIMESTAMP', 'TIMESTAMP_MS', 'TIMESTAMP_S') THEN epoch_ns(CAST(x AS TIMESTAMP_NS))
        ELSE CAST(x AS BIGINT)
    END;
