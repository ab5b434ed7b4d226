-- lakeflight_rest(moment TIMESTAMP_NS) -> BIGINT
-- The nanoseconds of a moment after its microsecond.
-- example: lakeflight_rest(TIMESTAMP_NS '1969-12-31 23:59:59.9999996') = 600
CREATE MACRO lakeflight_rest(t) AS (epoch_ns(t) % 1000 + 1000) % 1000;
