-- lakeflight_bytes(value BLOB) -> BLOB
-- Bytes as they are, and those of a text in UTF-8: a cast would read its backslashes.
-- example: lakeflight_bytes('ä\x41') = \xC3\xA4\x5Cx41
-- example: lakeflight_bytes('\xFF'::BLOB) = \xFF
CREATE MACRO lakeflight_bytes(x) AS
    CASE WHEN typeof(x) = 'BLOB' THEN CAST(x AS BLOB) ELSE system.main.encode(CAST(x AS VARCHAR)) END;
