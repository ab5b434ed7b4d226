-- regexp_replace(text VARCHAR, pattern VARCHAR, replacement VARCHAR) -> VARCHAR
-- A text with another one in place of the first match of a regular expression. In the replacement \1, $1 and ${1} are the first group, $$ is a dollar sign. A fourth argument has flags: g for every match, i, m and s.
-- list: string
-- example: regexp_replace('took 12 ms', '(\d+)', '[$1]') = took [12] ms
-- example: regexp_replace('took 12 ms', '(\d+)', '[\1]') = took [12] ms
-- example: regexp_replace('A1a2', 'a', 'x', 'gi') = x1x2
CREATE MACRO regexp_replace(t, pattern, replacement) AS system.main.regexp_replace(t, pattern, lakeflight_replacement(replacement)),
(t, pattern, replacement, flags) AS
    system.main.regexp_replace(t, lakeflight_flagged(pattern, flags), lakeflight_replacement(replacement), CASE WHEN contains(flags, 'g') THEN 'g' ELSE '' END);
