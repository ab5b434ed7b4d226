-- digest(value BLOB, algorithm VARCHAR) -> BLOB
-- The hash of bytes, or of those of a text in UTF-8, by md5, sha224, sha256, sha384, sha512, blake2b or blake2s.
-- list: string
-- example: encode(digest('abc', 'sha256'), 'hex') = ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
CREATE MACRO digest(x, algorithm) AS lakeflight_digest(lakeflight_bytes(x), CAST(algorithm AS VARCHAR));
