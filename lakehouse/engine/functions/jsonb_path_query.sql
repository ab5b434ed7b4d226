-- jsonb_path_query(document VARCHAR, path VARCHAR) -> VARCHAR
-- All values at a path such as $.users[*].name, as an array of JSON, which is empty where there are none. A path with * is a literal.
-- list: string
-- example: jsonb_path_query('{"users":[{"name":"Alice"},{"name":"Bob"}]}', '$.users[*].name') = ["Alice","Bob"]
-- example: jsonb_path_query('{"users":[]}', '$.missing') = []
CREATE MACRO jsonb_path_query(j, path) AS
    CASE
        WHEN j IS NULL OR path IS NULL THEN NULL
        WHEN contains(CAST(path AS VARCHAR), '*')
        THEN CAST(to_json(json_extract(lakeflight_walked(CAST(j AS VARCHAR), path), lakeflight_path(path))) AS VARCHAR)
        ELSE coalesce('[' || CAST(to_json(json_extract(lakeflight_walked(CAST(j AS VARCHAR), path), lakeflight_path(path))) AS VARCHAR) || ']', '[]')
    END;
