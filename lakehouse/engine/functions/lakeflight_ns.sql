-- lakeflight_ns(moment TIMESTAMP) -> TIMESTAMP_NS
-- A coarser moment in nanoseconds; infinity where these do not reach.
-- Its argument is one of no rows, which the engine computes once and for all.
-- example: lakeflight_ns(DATE '9999-12-31') = infinity
-- example: lakeflight_ns(DATE '0001-01-01') = -infinity
-- example: lakeflight_ns(TIMESTAMP '2026-01-01 00:00:00.000001') = 2026-01-01 00:00:00.000001
CREATE MACRO lakeflight_ns(t) AS
    CASE
        WHEN CAST(t AS TIMESTAMP) > TIMESTAMP '2262-04-11 23:47:16.854774' THEN TIMESTAMP_NS 'infinity'
        WHEN CAST(t AS TIMESTAMP) < TIMESTAMP '1677-09-21 00:12:43.145226' THEN TIMESTAMP_NS '-infinity'
        ELSE TRY_CAST(CAST(t AS TIMESTAMP) AS TIMESTAMP_NS)
    END;
