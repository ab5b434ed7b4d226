-- lakeflight_age(first TIMESTAMP_NS, second TIMESTAMP_NS) -> INTERVAL
-- What age says of two moments, in whole microseconds.
-- example: lakeflight_age(TIMESTAMP_NS '2026-02-01 00:00:00.0000004', TIMESTAMP_NS '2026-01-01 00:00:00.0000005') = 30 days 23:59:59.999999
CREATE MACRO lakeflight_age(a, b) AS
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
            THEN age(struct_extract(of, 'a') - to_microseconds(CAST(struct_extract(of, 'a_rest') < struct_extract(of, 'b_rest') AS BIGINT)), struct_extract(of, 'b'))
            ELSE age(struct_extract(of, 'a'), struct_extract(of, 'b') - to_microseconds(CAST(struct_extract(of, 'b_rest') < struct_extract(of, 'a_rest') AS BIGINT)))
        END
    )[1];
