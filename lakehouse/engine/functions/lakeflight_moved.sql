-- lakeflight_moved(moment TIMESTAMP_NS, nanoseconds BIGINT) -> TIMESTAMP_NS
-- What lakeflight_plus gives for a column and a constant span without months; infinity where nanoseconds do not reach.
-- The moment is a name, which may stand in it as often as one likes.
-- example: lakeflight_moved(TIMESTAMP_NS '2026-01-01 00:00:00.123456789', 86400000000000) = 2026-01-02 00:00:00.123456789
-- example: lakeflight_moved(TIMESTAMP_NS '2262-04-11 23:00:00', 86400000000000) = infinity
-- example: lakeflight_moved(TIMESTAMP_NS '1677-09-22 00:00:00', -86400000000000) = -infinity
-- example: lakeflight_moved(TIMESTAMP_NS 'infinity', -1000) = infinity
CREATE MACRO lakeflight_moved(t, ns) AS
    CASE
        WHEN t >= TIMESTAMP_NS 'infinity' THEN TIMESTAMP_NS 'infinity'
        WHEN t <= TIMESTAMP_NS '-infinity' THEN TIMESTAMP_NS '-infinity'
        WHEN t > make_timestamp_ns(CASE WHEN ns < 0 THEN 9223372036854775806 ELSE 9223372036854774999 - ns END)
        THEN TIMESTAMP_NS 'infinity'
        WHEN t < make_timestamp_ns(CASE WHEN ns > 0 THEN -9223372036854775806 ELSE -9223372036854774000 - ns END)
        THEN TIMESTAMP_NS '-infinity'
        ELSE make_timestamp_ns(epoch_ns(t) + ns)
    END;
