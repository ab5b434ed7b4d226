-- nvl(value ANY, otherwise ANY) -> ANY
-- The value, or the second where it is NULL.
-- list: string
-- example: nvl(NULL, 2) = 2
CREATE MACRO nvl(a, b) AS coalesce(a, b);
