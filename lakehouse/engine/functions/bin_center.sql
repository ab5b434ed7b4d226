-- bin_center(value DOUBLE, size DOUBLE) -> DOUBLE
-- The middle of the bin of this size that a value lies in; zero is the middle of one.
-- list: numeric
-- example: bin_center(5, 10) = 10.0
-- example: bin_center(-5.0001, 10) = -10.0
CREATE MACRO bin_center(v, size) AS
    CASE WHEN CAST(size AS DOUBLE) <> 0  -- nearly always a constant: what follows is all that is left then
        THEN floor((CAST(v AS DOUBLE) + CAST(size AS DOUBLE) / 2) / CAST(size AS DOUBLE)) * CAST(size AS DOUBLE)
        ELSE list_transform(
            [CAST(size AS DOUBLE)], lambda s: floor(lakeflight_quotient(CAST(v AS DOUBLE) + s / 2, s)) * s)[1]
    END;
