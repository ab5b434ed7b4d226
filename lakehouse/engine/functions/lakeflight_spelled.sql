-- lakeflight_spelled(value BLOB, format VARCHAR) -> VARCHAR
-- Bytes as text, in one of the formats of encode.
-- example: lakeflight_spelled('ab'::BLOB, 'base64pad') = YWI=
CREATE MACRO lakeflight_spelled(x, format) AS
    list_transform([x], lambda b: CASE lower(format)
        WHEN 'hex' THEN lower(hex(b))
        WHEN 'base64' THEN rtrim(base64(b), '=')
        WHEN 'base64pad' THEN base64(b)
        ELSE error('encode knows hex, base64 and base64pad, not ' || format)
    END)[1];
