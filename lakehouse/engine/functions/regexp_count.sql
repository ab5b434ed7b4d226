-- regexp_count(text VARCHAR, pattern VARCHAR) -> BIGINT
-- How many times a text has what a regular expression describes.
-- list: string
-- example: regexp_count('a1b22', '[0-9]+') = 2
CREATE MACRO regexp_count(t, pattern) AS len(regexp_extract_all(t, pattern));
