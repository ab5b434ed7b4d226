-- nanvl(x DOUBLE, y DOUBLE) -> DOUBLE
-- x, or y where x is NaN.
-- list: numeric
-- example: nanvl(unlerp(1, 1, 1), 0) = 0.0
CREATE MACRO nanvl(x, y) AS
    list_transform([CAST(x AS DOUBLE)], lambda v: CASE WHEN isnan(v) THEN CAST(y AS DOUBLE) ELSE v END)[1];
