-- encode(value BLOB, format VARCHAR) -> VARCHAR
-- Bytes, or those of a text, as text: 'hex' in small letters, 'base64' without padding, 'base64pad' with it. With one argument, the bytes of a text.
-- list: string
-- example: encode(CAST('abc' AS BLOB), 'hex') = 616263
-- example: encode('ab', 'base64') = YWI
CREATE MACRO encode(t) AS system.main.encode(t),
(x, format) AS
    list_transform([CAST(x AS BLOB)], lambda b: CASE lower(format)
        WHEN 'hex' THEN lower(hex(b))
        WHEN 'base64' THEN rtrim(base64(b), '=')
        WHEN 'base64pad' THEN base64(b)
        ELSE error('encode knows hex, base64 and base64pad, not ' || format)
    END)[1];
