-- date_bin(width INTERVAL, time TIMESTAMP_NS) -> TIMESTAMP_NS
-- The begin of the bin of this width that a time is in, to the nanosecond. Bins are counted from 1970, or from a third argument; the width is an interval or its text, of days and less, or of whole months. Grafana's macros give a third argument, and a width of nothing below a second: that is a millisecond.
-- list: datetime
-- example: date_bin(INTERVAL '1 minute', TIMESTAMP_NS '2026-01-01 12:34:56.123456789') = 2026-01-01 12:34:00
-- example: date_bin('1 day', TIMESTAMP_NS '1969-12-31 23:59:59.999999999') = 1969-12-31 00:00:00
-- example: date_bin('3 months', TIMESTAMP_NS '2026-05-31 12:00:00') = 2026-04-01 00:00:00
-- example: date_bin('1 hour', TIMESTAMP_NS '2026-01-01 12:34:56', TIMESTAMP '2026-01-01 00:30:00') = 2026-01-01 12:30:00
-- example: date_bin(INTERVAL '0 second', TIMESTAMP_NS '2026-01-01 12:34:56.123456789', TIMESTAMP '1970-01-01 00:00:00') = 2026-01-01 12:34:56.123
-- example: date_bin('1 month', TIMESTAMP_NS '2026-01-31 12:34:56', TIMESTAMP '1970-01-01 00:00:00') = 2026-01-01 00:00:00
CREATE MACRO date_bin(width, t) AS lakeflight_date_bin(CAST(width AS INTERVAL), CAST(t AS TIMESTAMP_NS)),
(width, t, origin) AS lakeflight_date_bin_from(CASE WHEN CAST(width AS INTERVAL) = INTERVAL 0 SECOND THEN INTERVAL 1 MILLISECOND ELSE CAST(width AS INTERVAL) END, CAST(t AS TIMESTAMP_NS), epoch_ns(CAST(origin AS TIMESTAMP_NS)));
