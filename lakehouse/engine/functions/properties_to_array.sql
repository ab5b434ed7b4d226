-- properties_to_array(properties VARCHAR) -> STRUCT(key VARCHAR, value VARCHAR)[]
-- Properties as a list of keys and values, from JSON text or from such a list; values that are no strings are JSON text.
-- list: string
-- example: properties_to_array('{"a":"1","b":[2]}') = [{'key': a, 'value': 1}, {'key': b, 'value': '[2]'}]
CREATE MACRO properties_to_array(p VARCHAR) AS
    list_transform([p], lambda x: CASE WHEN x IS NOT NULL THEN list_transform(
        list_zip(json_keys(x), json_extract(x, '$.*')),
        lambda e: {'key': e[1], 'value': lakeflight_text(e[2])}) END)[1],
(p STRUCT("key" VARCHAR, "value" VARCHAR)[]) AS p;
