-- lakeflight_span(left TIMESTAMP_NS, right TIMESTAMP_NS) -> BIGINT
-- CAST(left - right AS BIGINT): of two times the nanoseconds between them, where the engine's difference counts microseconds.
-- For columns: each argument stands in it several times.
-- example: lakeflight_span(TIMESTAMP_NS '2026-01-01 00:00:00.000000007', TIMESTAMP '2026-01-01 00:00:00') = 7
-- example: lakeflight_span(7, 5) = 2
-- example: lakeflight_span(7.9, 5.2) = 3
CREATE MACRO lakeflight_span(a, b) AS
    CASE
        WHEN typeof(a) LIKE 'TIMESTAMP%' AND typeof(b) LIKE 'TIMESTAMP%'
        THEN epoch_ns(CAST(a AS TIMESTAMP_NS)) - epoch_ns(CAST(b AS TIMESTAMP_NS))
        WHEN typeof(a) = 'TIMESTAMP_NS'
        THEN error('a time minus ' || typeof(b) || ' as a BIGINT would lose its nanoseconds: use epoch_ns')
        ELSE lakeflight_count(a - b)
    END;
