-- var_sample(value DOUBLE) -> DOUBLE
-- The variance of a sample: var_samp.
-- kind: aggregate
-- list: numeric
-- example: (SELECT var_sample(v) FROM (VALUES (1), (2), (3)) t(v)) = 1.0
CREATE MACRO var_sample(x) AS var_samp(x);
