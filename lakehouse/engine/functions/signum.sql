-- signum(value DOUBLE) -> DOUBLE
-- -1, 0 or 1, as the number is less than 0, 0, or more.
-- list: numeric
-- example: signum(-3) = -1.0
CREATE MACRO signum(x) AS CAST(sign(x) AS DOUBLE);
