-- nvl2(value ANY, present ANY, absent ANY) -> ANY
-- The second argument where the first is there, the third where it is NULL.
-- list: string
-- example: nvl2(NULL, 1, 2) = 2
-- example: nvl2('x', 1, 2) = 1
CREATE MACRO nvl2(a, b, c) AS CASE WHEN a IS NOT NULL THEN b ELSE c END;
