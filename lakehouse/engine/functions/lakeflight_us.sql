-- lakeflight_us(moment TIMESTAMP_NS) -> TIMESTAMP
-- The microsecond that a moment is in; the engine would round.
-- example: lakeflight_us(TIMESTAMP_NS '2026-12-31 23:59:59.9999996') = 2026-12-31 23:59:59.999999
-- example: lakeflight_us(TIMESTAMP_NS '1969-12-31 23:59:59.9999996') = 1969-12-31 23:59:59.999999
-- example: lakeflight_us(TIMESTAMP_NS 'infinity') = infinity
CREATE MACRO lakeflight_us(t) AS
    CASE
        WHEN t >= TIMESTAMP_NS 'infinity' THEN TIMESTAMP 'infinity'
        WHEN t <= TIMESTAMP_NS '-infinity' THEN TIMESTAMP '-infinity'
        ELSE make_timestamp(epoch_ns(t) // 1000 - CAST(epoch_ns(t) % 1000 < 0 AS BIGINT))
    END;
