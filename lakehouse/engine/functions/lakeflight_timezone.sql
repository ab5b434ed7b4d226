-- lakeflight_timezone(zone VARCHAR, moment TIMESTAMP_NS) -> TIMESTAMP_NS
-- AT TIME ZONE of a time without a zone, which is UTC here as every column is: the wall clock of the zone.
-- example: lakeflight_timezone('Europe/Berlin', TIMESTAMP_NS '2026-06-01 12:00:00.123456789') = 2026-06-01 14:00:00.123456789
CREATE MACRO lakeflight_timezone(zone, t) AS timezone(zone, timezone('UTC', t));
