-- properties_to_jsonb(properties VARCHAR) -> VARCHAR
-- Properties as JSON text, keys in order, from such text or from a list of keys and values; of equal keys the last counts.
-- list: string
-- example: properties_to_jsonb([{'key': 'b', 'value': '1'}, {'key': 'a', 'value': '2'}, {'key': 'b', 'value': '3'}]) = {"a":"2","b":"3"}
-- example: properties_to_jsonb(CAST([] AS STRUCT(key VARCHAR, value VARCHAR)[])) = {}
CREATE MACRO properties_to_jsonb(p VARCHAR) AS CAST(json_normalize(p) AS VARCHAR),
(p STRUCT("key" VARCHAR, "value" VARCHAR)[]) AS
    list_transform([p], lambda x: CASE WHEN x IS NOT NULL THEN '{' || array_to_string(list_transform(
        lakeflight_last_of_each(x), lambda e: to_json(struct_extract(e, 'key')) || ':' || coalesce(CAST(to_json(struct_extract(e, 'value')) AS VARCHAR), 'null')), ',') || '}' END)[1];
