-- lakeflight_date_sub(part VARCHAR, first TIMESTAMP_NS, second TIMESTAMP_NS) -> BIGINT
-- Whole parts between two moments; a part is over when its last nanosecond is.
-- example: lakeflight_date_sub('hour', TIMESTAMP_NS '2026-01-01 00:00:00.0000005', TIMESTAMP_NS '2026-01-01 01:00:00.0000004') = 0
CREATE MACRO lakeflight_date_sub(part, a, b) AS
    list_transform(
        [struct_pack(a := a, b := b)],
        lambda of: CASE
            WHEN of.b >= of.a
            THEN date_sub(part, lakeflight_floor(of.a), lakeflight_floor(of.b) - to_microseconds(CAST(lakeflight_rest(of.b) < lakeflight_rest(of.a) AS BIGINT)))
            ELSE date_sub(part, lakeflight_floor(of.a) - to_microseconds(CAST(lakeflight_rest(of.a) < lakeflight_rest(of.b) AS BIGINT)), lakeflight_floor(of.b))
        END
    )[1];
