-- lakeflight_whole_us(moment TIMESTAMP_NS) -> TIMESTAMP
-- A moment for functions that could not give its nanoseconds back: one that has some is refused.
-- example: lakeflight_whole_us(TIMESTAMP_NS '2026-12-31 23:59:59.999999') = 2026-12-31 23:59:59.999999
CREATE MACRO lakeflight_whole_us(t) AS
    CASE
        WHEN lakeflight_rest(t) = 0 OR t >= TIMESTAMP_NS 'infinity' OR t <= TIMESTAMP_NS '-infinity' THEN lakeflight_us(t)
        ELSE error('this function would lose the nanoseconds of ' || CAST(t AS VARCHAR) || ': give it CAST(… AS TIMESTAMP)')
    END;
