-- encode(value BLOB, format VARCHAR) -> VARCHAR
-- Bytes, or those of a text, as text: 'hex' in small letters, 'base64' without padding, 'base64pad' with it. With one argument, the bytes of a text.
-- list: string
-- example: encode(CAST('abc' AS BLOB), 'hex') = 616263
-- example: encode('ab', 'base64') = YWI
-- example: encode('ä\x41', 'hex') = c3a45c783431
CREATE MACRO encode(t) AS system.main.encode(t),
(x, format) AS lakeflight_spelled(lakeflight_bytes(x), format);
