-- ago(span INTERVAL) -> TIMESTAMP_NS
-- The moment so long before the statement began.
-- example: ago(INTERVAL 1 HOUR) < now() = true
CREATE MACRO ago(span) AS lakeflight_less(CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS), CAST(span AS INTERVAL));
