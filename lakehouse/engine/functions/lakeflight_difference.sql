-- lakeflight_difference(left TIMESTAMP_NS, right TIMESTAMP_NS) -> INTERVAL
-- How long it is from right to left, in the whole microseconds that an interval counts.
-- example: lakeflight_difference(TIMESTAMP_NS '2026-01-01 00:00:00.000001', TIMESTAMP_NS '2026-01-01 00:00:00.0000001') = 00:00:00
CREATE MACRO lakeflight_difference(a, b) AS
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
            THEN (of.a - to_microseconds(CAST(of.a_rest < of.b_rest AS BIGINT))) - of.b
            ELSE of.a - (of.b - to_microseconds(CAST(of.b_rest < of.a_rest AS BIGINT)))
        END
    )[1];
