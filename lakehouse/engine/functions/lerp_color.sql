-- lerp_color(first UINTEGER, second UINTEGER, t DOUBLE) -> UINTEGER
-- The colour at t of the way between two, each channel by itself; t is drawn into 0 to 1.
-- list: numeric
-- example: lerp_color(CAST(4278190080 AS UINTEGER), CAST(16711680 AS UINTEGER), 0.5) = 2155872256
CREATE MACRO lerp_color(a, b, t) AS
    list_transform(
        [{'a': CAST(a AS UBIGINT), 'b': CAST(b AS UBIGINT), 't': CAST(t AS DOUBLE)}],
        lambda s: CAST(lakeflight_between(struct_extract(s, 'a'), struct_extract(s, 'b'), struct_extract(s, 't'), 24) + lakeflight_between(struct_extract(s, 'a'), struct_extract(s, 'b'), struct_extract(s, 't'), 16)
            + lakeflight_between(struct_extract(s, 'a'), struct_extract(s, 'b'), struct_extract(s, 't'), 8) + lakeflight_between(struct_extract(s, 'a'), struct_extract(s, 'b'), struct_extract(s, 't'), 0) AS UINTEGER))[1];
