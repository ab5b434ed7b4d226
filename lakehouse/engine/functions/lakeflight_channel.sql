-- lakeflight_channel(part DOUBLE) -> UBIGINT
-- A part of one as a byte.
-- example: lakeflight_channel(0.5) = 128
-- example: lakeflight_channel('nan') = 0
CREATE MACRO lakeflight_channel(f) AS
    list_transform([CAST(f AS DOUBLE)], lambda x: CASE
        WHEN x IS NULL THEN NULL
        WHEN isnan(x) THEN 0::UBIGINT
        ELSE CAST(floor(greatest(0::DOUBLE, least(255::DOUBLE, x * 255 + 0.5::DOUBLE))) AS UBIGINT)
    END)[1];
