-- lakeflight_between(first UINTEGER, second UINTEGER, t DOUBLE, shift INTEGER) -> UBIGINT
-- One channel of the colour between two, in its place.
-- example: lakeflight_between(0, 255, 0.5, 0) = 128
CREATE MACRO lakeflight_between(a, b, t, place) AS
    CASE WHEN t IS NOT NULL THEN CAST(floor(lerp((CAST(a AS UBIGINT) >> place) & 255::UBIGINT, (CAST(b AS UBIGINT) >> place) & 255::UBIGINT,
        greatest(0::DOUBLE, least(1::DOUBLE, CAST(t AS DOUBLE)))) + 0.5::DOUBLE) AS UBIGINT) << place END;
