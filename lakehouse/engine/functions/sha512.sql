-- sha512(value BLOB) -> BLOB
-- The SHA-512 hash of bytes, or of those of a text in UTF-8; encode(sha512(x), 'hex') is its text. (md5 is the engine's, which gives text.)
-- list: string
-- example: len(encode(sha512('abc'), 'hex')) = 128
CREATE MACRO sha512(x) AS lakeflight_digest(lakeflight_bytes(x), 'sha512');
