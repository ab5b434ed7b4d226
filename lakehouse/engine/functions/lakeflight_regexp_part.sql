-- lakeflight_regexp_part(text VARCHAR, pattern VARCHAR, group INTEGER) -> VARCHAR
-- What a group of a pattern has in the first match.
-- example: lakeflight_regexp_part('took 12 ms', '(\d+) (\w+)', 2) = ms
CREATE MACRO lakeflight_regexp_part(t, pattern, g) AS regexp_extract(t, pattern, g);
