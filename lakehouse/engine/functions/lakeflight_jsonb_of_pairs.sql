-- lakeflight_jsonb_of_pairs(properties STRUCT("key" VARCHAR, "value" VARCHAR)[]) -> VARCHAR
-- Properties as a JSON object, of a list of keys and values.
-- example: lakeflight_jsonb_of_pairs([{'key': 'a', 'value': 'x'}]) = {"a":"x"}
CREATE MACRO lakeflight_jsonb_of_pairs(p) AS
    list_transform([p], lambda x: CASE WHEN x IS NOT NULL THEN '{' || array_to_string(list_transform(
        lakeflight_last_of_each(x), lambda e: to_json(struct_extract(e, 'key')) || ':' || coalesce(CAST(to_json(struct_extract(e, 'value')) AS VARCHAR), 'null')), ',') || '}' END)[1];
