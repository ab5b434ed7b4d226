-- sha224(value BLOB) -> BLOB
-- The SHA-224 hash of bytes, or of those of a text in UTF-8; encode(sha224(x), 'hex') is its text. (md5 is the engine's, which gives text.)
-- list: string
-- example: len(encode(sha224('abc'), 'hex')) = 56
CREATE MACRO sha224(x) AS lakeflight_digest(lakeflight_bytes(x), 'sha224');
