-- lakeflight_date_bin(width INTERVAL, moment TIMESTAMP_NS) -> TIMESTAMP_NS
-- The body of date_bin. Bins begin with a microsecond, so the one that a moment is in tells its bin.
-- example: lakeflight_date_bin(INTERVAL 10 SECOND, TIMESTAMP_NS '1969-12-31 23:59:59.999999999') = 1969-12-31 23:59:50
-- example: lakeflight_date_bin(INTERVAL 3 MONTH, TIMESTAMP_NS '1969-12-31 23:59:59') = 1969-10-01 00:00:00
CREATE MACRO lakeflight_date_bin(w, t) AS CAST(time_bucket(w, lakeflight_us(t), TIMESTAMP '1970-01-01') AS TIMESTAMP_NS);
