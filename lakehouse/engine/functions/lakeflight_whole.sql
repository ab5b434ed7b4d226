-- lakeflight_whole(value TIMESTAMP_NS) -> HUGEINT
-- The integer that arrow_cast makes of anything: numbers are cut off, where CAST rounds; times and their differences in nanoseconds.
-- example: lakeflight_whole(2.7) = 2
-- example: lakeflight_whole(-2.7::DOUBLE) = -2
-- example: lakeflight_whole('12') = 12
-- example: lakeflight_whole(INTERVAL 1 SECOND) = 1000000000
CREATE MACRO lakeflight_whole(x) AS
    list_transform([x], lambda v: CASE
        WHEN typeof(v) IN ('DOUBLE', 'FLOAT') THEN CAST(trunc(CAST(v AS DOUBLE)) AS HUGEINT)
        WHEN typeof(v) LIKE 'DECIMAL%' THEN CAST(trunc(CAST(v AS DECIMAL(38, 9))) AS HUGEINT)
        WHEN typeof(v) = 'INTERVAL' OR typeof(v) LIKE 'TIMESTAMP%' THEN lakeflight_count(v)
        ELSE CAST(v AS HUGEINT)
    END)[1];
