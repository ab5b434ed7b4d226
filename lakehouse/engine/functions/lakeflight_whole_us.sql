-- lakeflight_whole_us(moment TIMESTAMP_NS) -> TIMESTAMP
-- A moment for functions that could not give its nanoseconds back: one that has some is refused.
-- example: lakeflight_whole_us(TIMESTAMP_NS '2026-12-31 23:59:59.999999') = 2026-12-31 23:59:59.999999
CREATE MACRO lakeflight_whole_us(t) AS
    list_transform(
        [t],
        lambda moment: CASE
            WHEN lakeflight_rest(moment) = 0 OR moment >= TIMESTAMP_NS 'infinity' OR moment <= TIMESTAMP_NS '-infinity'
            THEN lakeflight_floor(moment)
            ELSE error('this function would lose the nanoseconds of ' || CAST(moment AS VARCHAR) || ': give it CAST(… AS TIMESTAMP)')
        END
    )[1];
