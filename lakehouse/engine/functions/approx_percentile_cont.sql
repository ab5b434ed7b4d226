-- approx_percentile_cont(value DOUBLE, share DOUBLE) -> DOUBLE
-- About the value below which this share of the values lies, in little memory: a sketch, as the original's, with other last digits. Also as approx_percentile_cont(share) WITHIN GROUP (ORDER BY value).
-- kind: aggregate
-- list: numeric
-- example: (SELECT approx_percentile_cont(v, 0.5) FROM (VALUES (1.0), (2.0), (9.0)) t(v)) = 2.0
CREATE MACRO approx_percentile_cont(x, p) AS approx_quantile(CAST(x AS DOUBLE), p);
