-- decode(text VARCHAR, format VARCHAR) -> BLOB
-- The bytes that a text has in hex, or in base64 with or without padding. With one argument, the text of UTF-8 bytes.
-- list: string
-- example: decode('616263', 'hex') = abc
-- example: decode('YWI', 'base64') = ab
CREATE MACRO decode(b) AS system.main.decode(b),
(t, format) AS
    list_transform([CAST(t AS VARCHAR)], lambda s: CASE
        WHEN lower(format) = 'hex' THEN unhex(s)
        WHEN lower(format) IN ('base64', 'base64pad') THEN from_base64(rtrim(s, '=') || repeat('=', (4 - len(rtrim(s, '=')) % 4) % 4))
        ELSE error('decode knows hex, base64 and base64pad, not ' || format)
    END)[1];
