-- jsonb_path_query(document VARCHAR, path VARCHAR) -> VARCHAR
-- All values at a path such as $.users[*].name, as an array of JSON, which is empty where there are none. A path with * is a literal, or has a filter or a range as well: $.users[*] ? (@.age >= 18 && @.name != "Bob").name, $.users[0 to last - 1].
-- list: string
-- example: jsonb_path_query('{"users":[{"name":"Alice"},{"name":"Bob"}]}', '$.users[*].name') = ["Alice","Bob"]
-- example: jsonb_path_query('{"users":[{"name":"Alice","age":17},{"name":"Bob","age":18}]}', '$.users[*] ? (@.age >= 18).name') = ["Bob"]
-- example: jsonb_path_query('{"users":[]}', '$.missing') = []
CREATE MACRO jsonb_path_query(j, path) AS
    list_transform([lakeflight_document(j)], lambda x: CASE
        WHEN x IS NULL OR path IS NULL THEN NULL
        WHEN NOT lakeflight_is_path(path) THEN lakeflight_selected(x, CAST(path AS VARCHAR))
        WHEN contains(CAST(path AS VARCHAR), '*') THEN CAST(to_json(json_extract(x, lakeflight_path(path))) AS VARCHAR)
        ELSE coalesce('[' || CAST(to_json(json_extract(x, lakeflight_path(path))) AS VARCHAR) || ']', '[]')
    END)[1];
