-- sha256(value BLOB) -> BLOB
-- The SHA-256 hash of bytes, or of those of a text in UTF-8; encode(sha256(x), 'hex') is its text. (md5 is the engine's, which gives text.)
-- list: string
-- example: encode(sha256('abc'), 'hex') = ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
-- example: octet_length(sha256('abc')) = 32
CREATE MACRO sha256(x) AS unhex(system.main.sha256(lakeflight_bytes(x)));
