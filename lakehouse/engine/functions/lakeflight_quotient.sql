-- lakeflight_quotient(a DOUBLE, b DOUBLE) -> DOUBLE
-- Division as IEEE has it: by zero it is infinite, and NaN where both are zero. The engine's own is an error there.
-- example: lakeflight_quotient(-1, 0) = -inf
-- example: lakeflight_quotient(0, 0) = nan
CREATE MACRO lakeflight_quotient(a, b) AS
    list_transform(
        [{'a': CAST(a AS DOUBLE), 'b': CAST(b AS DOUBLE)}],
        lambda s: CASE
            WHEN s.b <> 0 THEN s.a / s.b
            WHEN s.b IS NULL THEN NULL
            WHEN s.a = 0 THEN 'nan'::DOUBLE
            ELSE s.a * 'inf'::DOUBLE
        END)[1];
