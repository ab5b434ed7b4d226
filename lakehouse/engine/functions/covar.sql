-- covar(y DOUBLE, x DOUBLE) -> DOUBLE
-- The covariance of a sample: covar_samp.
-- kind: aggregate
-- list: numeric
-- example: (SELECT covar(v, v) FROM (VALUES (1), (2), (3)) t(v)) = 1.0
CREATE MACRO covar(y, x) AS covar_samp(y, x);
