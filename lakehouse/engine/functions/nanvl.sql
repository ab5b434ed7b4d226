-- nanvl(x DOUBLE, y DOUBLE) -> DOUBLE
-- x, or y where x is NaN.
-- list: numeric
-- example: nanvl(unlerp(1, 1, 1), 0) = 0.0
CREATE MACRO nanvl(x, y) AS CASE WHEN isnan(CAST(x AS DOUBLE)) THEN CAST(y AS DOUBLE) ELSE CAST(x AS DOUBLE) END;
