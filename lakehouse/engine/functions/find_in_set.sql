-- find_in_set(text VARCHAR, list VARCHAR) -> BIGINT
-- The place of a text among those that a comma separates, from 1; 0 where it is not among them.
-- list: string
-- example: find_in_set('b', 'a,b,c') = 2
-- example: find_in_set('d', 'a,b,c') = 0
-- example: find_in_set('', '') = 0
CREATE MACRO find_in_set(t, l) AS
    CASE WHEN t IS NULL OR l IS NULL THEN NULL WHEN l = '' THEN 0
        ELSE coalesce(CAST(list_position(string_split(l, ','), CAST(t AS VARCHAR)) AS BIGINT), 0) END;
