-- lakeflight_regexp_match(text VARCHAR, pattern VARCHAR, parts VARCHAR[]) -> VARCHAR[]
-- The parts of a match, if there is one.
-- example: lakeflight_regexp_match('took', 'o', ['a']) = [a]
CREATE MACRO lakeflight_regexp_match(t, pattern, parts) AS CASE WHEN regexp_matches(t, pattern) THEN parts END;
