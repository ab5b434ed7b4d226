-- lakeflight_to_char(time TIMESTAMP_NS, format VARCHAR) -> VARCHAR
-- The body of to_char: a format of the engine's, with the character 1 and a number of digits where parts of a second are.
-- example: lakeflight_to_char(TIMESTAMP_NS '1969-12-31 23:59:59.123456789', '%S' || chr(1) || '3' || chr(1) || '9') = 59123123456789
CREATE MACRO lakeflight_to_char(t, f) AS
    list_transform([CAST(t AS TIMESTAMP_NS)], lambda x: replace(replace(replace(
        strftime(lakeflight_floor(x), f),
        chr(1) || '3', lpad(CAST((epoch_ns(x) % 1000000000 + 1000000000) % 1000000000 // 1000000 AS VARCHAR), 3, '0')),
        chr(1) || '6', lpad(CAST((epoch_ns(x) % 1000000000 + 1000000000) % 1000000000 // 1000 AS VARCHAR), 6, '0')),
        chr(1) || '9', lpad(CAST((epoch_ns(x) % 1000000000 + 1000000000) % 1000000000 AS VARCHAR), 9, '0')))[1];
