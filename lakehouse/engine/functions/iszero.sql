-- iszero(value DOUBLE) -> BOOLEAN
-- Whether a number is 0.
-- list: numeric
-- example: iszero(0.0) = true
CREATE MACRO iszero(x) AS x = 0;
