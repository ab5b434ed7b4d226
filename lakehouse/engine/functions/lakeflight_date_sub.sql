-- lakeflight_date_sub(part VARCHAR, first TIMESTAMP_NS, second TIMESTAMP_NS) -> BIGINT
-- Whole parts between two moments; a part is over when its last nanosecond is.
-- example: lakeflight_date_sub('hour', TIMESTAMP_NS '2026-01-01 00:00:00.0000005', TIMESTAMP_NS '2026-01-01 01:00:00.0000004') = 0
CREATE MACRO lakeflight_date_sub(part, a, b) AS
    list_transform(
        list_transform(
            [struct_pack(a := a, b := b)],
            lambda given: struct_pack(
                a := lakeflight_floor(given.a),
                b := lakeflight_floor(given.b),
                a_rest := lakeflight_rest(given.a),
                b_rest := lakeflight_rest(given.b),
                is_forward := given.a <= given.b
            )
        ),
        lambda of: CASE
            WHEN of.is_forward
            THEN date_sub(part, of.a, of.b - to_microseconds(CAST(of.b_rest < of.a_rest AS BIGINT)))
            ELSE date_sub(part, of.a - to_microseconds(CAST(of.a_rest < of.b_rest AS BIGINT)), of.b)
        END
    )[1];
