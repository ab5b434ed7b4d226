-- lakeflight_quotient(a DOUBLE, b DOUBLE) -> DOUBLE
-- Division as IEEE has it: by zero it is infinite, and NaN where both are zero. The engine's own is an error there.
-- example: lakeflight_quotient(-1, 0) = -inf
-- example: lakeflight_quotient(0, 0) = nan
CREATE MACRO lakeflight_quotient(a, b) AS
    list_transform(
        [{'a': CAST(a AS DOUBLE), 'b': CAST(b AS DOUBLE)}],
        lambda s: CASE
            WHEN struct_extract(s, 'b') <> 0 THEN struct_extract(s, 'a') / struct_extract(s, 'b')
            WHEN struct_extract(s, 'b') IS NULL THEN NULL
            WHEN struct_extract(s, 'a') = 0 THEN 'nan'::DOUBLE
            ELSE struct_extract(s, 'a') * 'inf'::DOUBLE
        END)[1];
