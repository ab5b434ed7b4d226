-- lerp(a DOUBLE, b DOUBLE, t DOUBLE) -> DOUBLE
-- The value at t of the way from a to b, and beyond where t is.
-- list: numeric
-- example: lerp(10, 20, 0.25) = 12.5
CREATE MACRO lerp(a, b, t) AS
    list_transform([CAST(a AS DOUBLE)], lambda x: x + (CAST(b AS DOUBLE) - x) * CAST(t AS DOUBLE))[1];
