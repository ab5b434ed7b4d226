-- lakeflight_epoch_ms(moment TIMESTAMP_NS) -> BIGINT
-- The millisecond that a moment is in; the engine would round.
-- example: lakeflight_epoch_ms(TIMESTAMP_NS '1970-01-01 00:00:00.9999996') = 999
-- example: lakeflight_epoch_ms(TIMESTAMP_NS '1969-12-31 23:59:59.9999996') = -1
CREATE MACRO lakeflight_epoch_ms(t) AS
    list_transform([epoch_ns(t)], lambda ns: ns // 1000000 - CAST(ns % 1000000 < 0 AS BIGINT))[1];
