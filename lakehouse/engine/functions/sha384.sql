-- sha384(value BLOB) -> BLOB
-- The SHA-384 hash of bytes, or of those of a text in UTF-8; encode(sha384(x), 'hex') is its text. (md5 is the engine's, which gives text.)
-- list: string
-- example: len(encode(sha384('abc'), 'hex')) = 96
CREATE MACRO sha384(x) AS lakeflight_digest(lakeflight_bytes(x), 'sha384');
