-- lakeflight_difference(left TIMESTAMP_NS, right TIMESTAMP_NS) -> INTERVAL
-- How long it is from right to left, in the whole microseconds that an interval counts.
-- example: lakeflight_difference(TIMESTAMP_NS '2026-01-01 00:00:00.000001', TIMESTAMP_NS '2026-01-01 00:00:00.0000001') = 00:00:00
CREATE MACRO lakeflight_difference(a, b) AS
    list_transform(
        list_transform(
            [struct_pack(a := a, b := b)],
            lambda given: struct_pack(
                a := lakeflight_floor(struct_extract(given, 'a')),
                b := lakeflight_floor(struct_extract(given, 'b')),
                a_rest := lakeflight_rest(struct_extract(given, 'a')),
                b_rest := lakeflight_rest(struct_extract(given, 'b')),
                is_forward := struct_extract(given, 'a') >= struct_extract(given, 'b')
            )
        ),
        lambda of: CASE
            WHEN struct_extract(of, 'is_forward')
            THEN (struct_extract(of, 'a') - to_microseconds(CAST(struct_extract(of, 'a_rest') < struct_extract(of, 'b_rest') AS BIGINT))) - struct_extract(of, 'b')
            ELSE struct_extract(of, 'a') - (struct_extract(of, 'b') - to_microseconds(CAST(struct_extract(of, 'b_rest') < struct_extract(of, 'a_rest') AS BIGINT)))
        END
    )[1];
