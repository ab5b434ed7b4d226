-- var_population(value DOUBLE) -> DOUBLE
-- The variance of all values: var_pop.
-- kind: aggregate
-- list: numeric
-- example: (SELECT var_population(v) FROM (VALUES (1), (2), (3)) t(v)) = 0.6666666666666666
CREATE MACRO var_population(x) AS var_pop(x);
