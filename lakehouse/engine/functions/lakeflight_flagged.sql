-- lakeflight_flagged(pattern VARCHAR, flags VARCHAR) -> VARCHAR
-- A pattern that has its flags in it: the engine's own m is another.
-- example: lakeflight_flagged('^b', 'im') = (?im)^b
-- example: lakeflight_flagged('^b', 'g') = ^b
CREATE MACRO lakeflight_flagged(p, f) AS
    CASE
        WHEN NOT regexp_full_match(f, '[gims]*') THEN error('expressions know the flags i, m and s, and regexp_replace g, not ' || f)
        WHEN replace(f, 'g', '') = '' THEN p
        ELSE '(?' || replace(f, 'g', '') || ')' || p
    END;
