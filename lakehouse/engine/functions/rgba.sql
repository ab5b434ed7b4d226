-- rgba(red DOUBLE, green DOUBLE, blue DOUBLE, alpha DOUBLE) -> UINTEGER
-- A colour as 0xRRGGBBAA, of parts between 0 and 1; what lies outside is drawn in, NaN is 0.
-- list: numeric
-- example: rgba(1, 0, 0, 1) = 4278190335
-- example: rgba(2, -1, 0.5, 1) = 4278223103
CREATE MACRO rgba(r, g, b, a) AS
    CAST(lakeflight_channel(r) * 16777216::UBIGINT + lakeflight_channel(g) * 65536::UBIGINT
        + lakeflight_channel(b) * 256::UBIGINT + lakeflight_channel(a) AS UINTEGER);
