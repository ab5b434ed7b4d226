-- lakeflight_moment(text VARCHAR) -> TIMESTAMP_NS
-- The moment that a text says; infinity where nanoseconds do not reach.
-- Its argument is one of no rows, which the engine computes once and for all.
-- example: lakeflight_moment('2026-01-01 00:00:00.123456789') = 2026-01-01 00:00:00.123456789
-- example: lakeflight_moment('9999-12-31') = infinity
CREATE MACRO lakeflight_moment(t) AS
    CASE
        WHEN t IS NOT NULL AND TRY_CAST(t AS TIMESTAMP_NS) IS NULL AND TRY_CAST(t AS TIMESTAMP) IS NULL
        THEN error('''' || t || ''' is not a timestamp: write it as 2026-01-31 12:00:00, with up to nine digits of a second')
        ELSE coalesce(TRY_CAST(t AS TIMESTAMP_NS), lakeflight_ns(TRY_CAST(t AS TIMESTAMP)))
    END;
