-- approx_distinct(value ANY) -> BIGINT
-- About how many different values there are, in little memory.
-- kind: aggregate
-- list: numeric
-- example: (SELECT approx_distinct(v) FROM (VALUES (1), (2), (2)) t(v)) = 2
CREATE MACRO approx_distinct(x) AS approx_count_distinct(x);
