-- json_contains(document VARCHAR, sought VARCHAR) -> BOOLEAN
-- Whether a document contains another. Refused where more than 5,000 brackets open in it: the engine's own recurses, and so many levels would overflow its stack.
-- list: string
-- example: json_contains('{"a":[1,2]}', '2') = true
CREATE MACRO json_contains(j, sought) AS
    list_transform([CAST(j AS VARCHAR)], lambda x: system.main.json_contains(
        CASE WHEN length(x) - length(replace(replace(x, '[', ''), '{', '')) > 5000
        THEN error('json_contains takes documents in which at most 5000 brackets open: use jsonb_path_query_first')
        ELSE x END, CAST(sought AS VARCHAR)))[1];
