-- lakeflight_channel(part DOUBLE) -> UBIGINT
-- A part of one as a byte.
-- example: lakeflight_channel(0.5) = 128
-- example: lakeflight_channel('nan') = 0
CREATE MACRO lakeflight_channel(f) AS
    CASE WHEN f IS NULL THEN NULL WHEN isnan(CAST(f AS DOUBLE)) THEN 0::UBIGINT
    ELSE CAST(floor(greatest(0::DOUBLE, least(255::DOUBLE, CAST(f AS DOUBLE) * 255 + 0.5::DOUBLE))) AS UBIGINT) END;
