-- regexp_like(text VARCHAR, pattern VARCHAR) -> BOOLEAN
-- Whether a text has something that a regular expression describes. A third argument has flags: i, m and s.
-- list: string
-- example: regexp_like('abc', 'b') = true
-- example: regexp_like('aBc', 'b', 'i') = true
CREATE MACRO regexp_like(t, pattern) AS regexp_matches(t, pattern),
(t, pattern, flags) AS regexp_matches(t, lakeflight_flagged(pattern, flags));
