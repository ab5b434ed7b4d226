-- unlerp(a DOUBLE, b DOUBLE, x DOUBLE) -> DOUBLE
-- How far of the way from a to b a value is. NaN or infinite where a is b.
-- list: numeric
-- example: unlerp(10, 20, 12.5) = 0.25
-- example: unlerp(1, 1, 1) = nan
CREATE MACRO unlerp(a, b, x) AS
    list_transform(
        [{'a': CAST(a AS DOUBLE), 'b': CAST(b AS DOUBLE), 'x': CAST(x AS DOUBLE)}],
        lambda s: lakeflight_quotient(struct_extract(s, 'x') - struct_extract(s, 'a'), struct_extract(s, 'b') - struct_extract(s, 'a')))[1];
