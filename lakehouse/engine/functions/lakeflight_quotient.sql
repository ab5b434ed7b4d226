-- lakeflight_quotient(a DOUBLE, b DOUBLE) -> DOUBLE
-- Division as IEEE has it: by zero it is infinite, and NaN where both are zero. The engine's own is an error there.
-- example: lakeflight_quotient(-1, 0) = -inf
-- example: lakeflight_quotient(0, 0) = nan
CREATE MACRO lakeflight_quotient(a, b) AS
    CASE
        WHEN CAST(b AS DOUBLE) <> 0 THEN CAST(a AS DOUBLE) / CAST(b AS DOUBLE)
        WHEN b IS NULL THEN NULL
        WHEN CAST(a AS DOUBLE) = 0 THEN 'nan'::DOUBLE
        ELSE CAST(a AS DOUBLE) * 'inf'::DOUBLE
    END;
