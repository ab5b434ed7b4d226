-- lakeflight_spanned(left TIMESTAMP_NS, right TIMESTAMP_NS) -> BIGINT
-- What lakeflight_span gives, of arguments that are computed once.
-- example: lakeflight_spanned(TIMESTAMP_NS '2026-01-01 00:00:00.000000007', TIMESTAMP '2026-01-01 00:00:00') = 7
CREATE MACRO lakeflight_spanned(a, b) AS
    list_transform([{'a': a, 'b': b}], lambda v: lakeflight_span(struct_extract(v, 'a'), struct_extract(v, 'b')))[1];
