-- properties_to_array(properties VARCHAR) -> STRUCT(key VARCHAR, value VARCHAR)[]
-- Properties as a list of keys and values, from JSON text or from such a list; values that are no strings are JSON text.
-- list: string
-- example: properties_to_array('{"a":"1","b":[2]}') = [{'key': a, 'value': 1}, {'key': b, 'value': '[2]'}]
CREATE MACRO properties_to_array(p) AS
    CASE
        WHEN lakeflight_is_pairs(p) THEN CAST(p AS STRUCT("key" VARCHAR, "value" VARCHAR)[])
        ELSE lakeflight_array_of_text(CAST(p AS VARCHAR))
    END;
