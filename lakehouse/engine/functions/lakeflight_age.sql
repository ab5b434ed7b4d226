-- lakeflight_age(first TIMESTAMP_NS, second TIMESTAMP_NS) -> INTERVAL
-- What age says of two moments, in whole microseconds.
-- example: lakeflight_age(TIMESTAMP_NS '2026-02-01 00:00:00.0000004', TIMESTAMP_NS '2026-01-01 00:00:00.0000005') = 30 days 23:59:59.999999
CREATE MACRO lakeflight_age(a, b) AS
    list_transform(
        list_transform(
            [struct_pack(a := a, b := b)],
            lambda given: struct_pack(
                a := lakeflight_floor(given.a),
                b := lakeflight_floor(given.b),
                a_rest := lakeflight_rest(given.a),
                b_rest := lakeflight_rest(given.b),
                is_forward := given.a >= given.b
            )
        ),
        lambda of: CASE
            WHEN of.is_forward
            THEN age(of.a - to_microseconds(CAST(of.a_rest < of.b_rest AS BIGINT)), of.b)
            ELSE age(of.a, of.b - to_microseconds(CAST(of.b_rest < of.a_rest AS BIGINT)))
        END
    )[1];
