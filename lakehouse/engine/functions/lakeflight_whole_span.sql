-- lakeflight_whole_span(left TIMESTAMP_NS, right TIMESTAMP_NS) -> BIGINT
-- What arrow_cast(left - right, 'Int64') is: the nanoseconds between two times; other differences are cut off.
-- example: lakeflight_whole_span(TIMESTAMP_NS '2026-01-01 00:00:00.000000007', TIMESTAMP '2026-01-01 00:00:00') = 7
-- example: lakeflight_whole_span(7.9, 5.2) = 2
CREATE MACRO lakeflight_whole_span(a, b) AS
    list_transform(
        [{'a': a, 'b': b}],
        lambda v: CASE
            WHEN typeof(struct_extract(v, 'a')) LIKE 'TIMESTAMP%'
            THEN lakeflight_span(struct_extract(v, 'a'), struct_extract(v, 'b'))
            ELSE CAST(lakeflight_whole(struct_extract(v, 'a') - struct_extract(v, 'b')) AS BIGINT)
        END
    )[1];
