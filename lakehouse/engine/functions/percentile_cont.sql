-- percentile_cont(value DOUBLE, part DOUBLE) -> DOUBLE
-- The value below which a part of the values lies, between two values if it must. percentile_cont(part) WITHIN GROUP (ORDER BY value) is the same.
-- kind: aggregate
-- list: numeric
-- example: (SELECT percentile_cont(v, 0.5) FROM (VALUES (1.0), (2.0), (4.0), (9.0)) t(v)) = 3.0
CREATE MACRO percentile_cont(x, p) AS quantile_cont(x, p);
