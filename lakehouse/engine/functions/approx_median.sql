-- approx_median(value DOUBLE) -> DOUBLE
-- About the median, in little memory.
-- kind: aggregate
-- list: numeric
-- example: (SELECT approx_median(v) FROM (VALUES (1.0), (2.0), (9.0)) t(v)) = 2.0
CREATE MACRO approx_median(x) AS approx_quantile(CAST(x AS DOUBLE), 0.5);
