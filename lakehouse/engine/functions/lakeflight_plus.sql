-- lakeflight_plus(moment TIMESTAMP_NS, span INTERVAL) -> TIMESTAMP_NS
-- The moment so long after another, with its nanoseconds; infinity where these do not reach.
-- example: lakeflight_plus(TIMESTAMP_NS '2026-01-01 00:00:00.123456789', INTERVAL '500 years') = infinity
-- example: lakeflight_plus(TIMESTAMP_NS '2026-01-01 00:00:00.123456789', INTERVAL 1 DAY) = 2026-01-02 00:00:00.123456789
CREATE MACRO lakeflight_plus(t, i) AS
    list_transform(
        list_transform(
            [struct_pack(t := t, i := CAST(i AS INTERVAL))],
            lambda given: struct_pack(us := lakeflight_floor(struct_extract(given, 't')) + struct_extract(given, 'i'), rest := lakeflight_rest(struct_extract(given, 't')))
        ),
        lambda moved: CASE
            WHEN struct_extract(moved, 'us') > TIMESTAMP '2262-04-11 23:47:16.854774' THEN TIMESTAMP_NS 'infinity'
            WHEN struct_extract(moved, 'us') < TIMESTAMP '1677-09-21 00:12:43.145226' THEN TIMESTAMP_NS '-infinity'
            ELSE make_timestamp_ns(epoch_us(struct_extract(moved, 'us')) * 1000 + struct_extract(moved, 'rest'))
        END
    )[1];
