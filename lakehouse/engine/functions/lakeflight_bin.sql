-- lakeflight_bin(value DOUBLE, start DOUBLE, end DOUBLE, bins BIGINT) -> BIGINT
-- The place of a value's bin: from 0, what lies outside in the nearest.
-- example: lakeflight_bin(25, 0, 50, 5) = 2
-- example: lakeflight_bin('inf', 0, 50, 5) = 4
-- example: lakeflight_bin(7, 7, 7, 5) = 0
CREATE MACRO lakeflight_bin(v, lo, hi, n) AS
    CASE
        WHEN v IS NULL THEN NULL
        WHEN NOT CAST(lo AS DOUBLE) < CAST(hi AS DOUBLE) OR isnan(CAST(v AS DOUBLE)) THEN 0
        ELSE CAST(greatest(0::DOUBLE, least(CAST(n AS DOUBLE) - 1, floor(
            (CAST(v AS DOUBLE) - CAST(lo AS DOUBLE))
            / greatest((CAST(hi AS DOUBLE) - CAST(lo AS DOUBLE)) / greatest(1::DOUBLE, CAST(n AS DOUBLE)), 5e-324::DOUBLE)))) AS BIGINT)
    END;
