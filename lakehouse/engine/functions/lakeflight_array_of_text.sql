-- lakeflight_array_of_text(properties VARCHAR) -> STRUCT(key VARCHAR, value VARCHAR)[]
-- Properties as a list of keys and values, of JSON text.
-- example: lakeflight_array_of_text('{"a":1}') = [{'key': a, 'value': 1}]
CREATE MACRO lakeflight_array_of_text(p) AS
    list_transform([p], lambda x: CASE WHEN x IS NOT NULL THEN list_transform(
        list_zip(json_keys(x), json_extract(x, '$.*')),
        lambda e: {'key': e[1], 'value': lakeflight_text(e[2])}) END)[1];
