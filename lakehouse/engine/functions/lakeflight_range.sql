-- lakeflight_range(span INTERVAL) -> BIGINT
-- The nanoseconds of a span that a window reaches over; one of months has no such number.
-- example: lakeflight_range(INTERVAL '1 day 2 seconds') = 86402000000000
CREATE MACRO lakeflight_range(i) AS
    CASE
        WHEN date_part('year', i) = 0 AND date_part('month', i) = 0 THEN epoch_ns(i)
        ELSE error('a RANGE of months would lose the nanoseconds of a time: write ORDER BY CAST(… AS TIMESTAMP)')
    END;
