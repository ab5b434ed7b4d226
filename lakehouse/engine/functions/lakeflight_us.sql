-- lakeflight_us(moment TIMESTAMP_NS) -> TIMESTAMP
-- The microsecond that a moment is in; the engine would round.
-- example: lakeflight_us(TIMESTAMP_NS '2026-12-31 23:59:59.9999996') = 2026-12-31 23:59:59.999999
-- example: lakeflight_us(TIMESTAMP_NS '1969-12-31 23:59:59.9999996') = 1969-12-31 23:59:59.999999
-- example: lakeflight_us(TIMESTAMP_NS 'infinity') = infinity
CREATE MACRO lakeflight_us(t) AS list_transform([t], lambda moment: lakeflight_floor(moment))[1];
