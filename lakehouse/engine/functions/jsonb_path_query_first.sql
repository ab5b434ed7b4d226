-- jsonb_path_query_first(document VARCHAR, path VARCHAR) -> VARCHAR
-- The first value at a path such as $.items[1].name or $.users[*].name, as JSON; NULL where there is none. A path with * is a literal, or has a filter or a range as well, as those of jsonb_path_query.
-- list: string
-- example: jsonb_path_query_first('{"items":[10,20,30]}', '$.items[last - 1 to last]') = 20
-- example: jsonb_path_query_first('{"items":[10,20,30]}', '$.items[1]') = 20
-- example: jsonb_path_query_first('{"items":[10,20,30]}', '$.items[*]') = 10
CREATE MACRO jsonb_path_query_first(j, path) AS
    CAST(list_transform([lakeflight_document(j)], lambda x: CASE
        WHEN NOT lakeflight_is_path(path) THEN json_extract(CAST(lakeflight_selected(x, CAST(path AS VARCHAR)) AS JSON), '$[0]')
        WHEN contains(CAST(path AS VARCHAR), '*') THEN json_extract(to_json(json_extract(x, lakeflight_path(path))), '$[0]')
        ELSE to_json(json_extract(x, lakeflight_path(path)))
    END)[1] AS VARCHAR);
