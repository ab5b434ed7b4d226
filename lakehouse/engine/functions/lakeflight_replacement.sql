-- lakeflight_replacement(text VARCHAR) -> VARCHAR
-- What replaces a match, with groups as the engine has them: \1 for $1 and ${1}, and $ for $$.
-- example: lakeflight_replacement('[$1|${12}|\3|$$5|$ ]') = [\1|\12|\3|$5|$ ]
CREATE MACRO lakeflight_replacement(r) AS
    CASE
        WHEN NOT contains(r, '$') THEN r
        WHEN regexp_matches(replace(r, '$$', ''), '\$(?:[A-Za-z_]|\{[^}]*[^0-9}]|[0-9]+[A-Za-z_])')
        THEN error('groups are called by number here: \1, $1 or ${1}, not as in ' || r)
        ELSE replace(system.main.regexp_replace(replace(r, '$$', chr(1)), '\$(?:\{([0-9]+)\}|([0-9]+))', '\\\1\2', 'g'), chr(1), '$')
    END;
