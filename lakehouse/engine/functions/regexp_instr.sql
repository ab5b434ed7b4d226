-- regexp_instr(text VARCHAR, pattern VARCHAR) -> BIGINT
-- The place of the first character of what a regular expression describes, from 1; 0 where there is none.
-- list: string
-- example: regexp_instr('concat cat', '\bcat') = 8
-- example: regexp_instr('abc', 'x') = 0
CREATE MACRO regexp_instr(t, pattern) AS
    CASE WHEN regexp_matches(t, pattern)
        THEN length(regexp_extract(t, '^((?s:.)*?)(?:' || pattern || ')', 1)) + 1
        WHEN t IS NOT NULL AND pattern IS NOT NULL THEN 0
    END;
