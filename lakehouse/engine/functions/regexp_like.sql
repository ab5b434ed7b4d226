-- regexp_like(text VARCHAR, pattern VARCHAR) -> BOOLEAN
-- Whether a text has something that a regular expression describes.
-- list: string
-- example: regexp_like('abc', 'b') = true
CREATE MACRO regexp_like(t, pattern) AS regexp_matches(t, pattern);
