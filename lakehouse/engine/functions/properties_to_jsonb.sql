-- properties_to_jsonb(properties VARCHAR) -> VARCHAR
-- Properties as JSON text, keys in order, from such text or from a list of keys and values; of equal keys the last counts.
-- list: string
-- example: properties_to_jsonb([{'key': 'b', 'value': '1'}, {'key': 'a', 'value': '2'}, {'key': 'b', 'value': '3'}]) = {"a":"2","b":"3"}
-- example: properties_to_jsonb(CAST([] AS STRUCT(key VARCHAR, value VARCHAR)[])) = {}
CREATE MACRO properties_to_jsonb(p) AS
    CASE
        WHEN lakeflight_is_pairs(p) THEN lakeflight_jsonb_of_pairs(CAST(p AS STRUCT("key" VARCHAR, "value" VARCHAR)[]))
        ELSE lakeflight_jsonb_of_text(CAST(p AS VARCHAR))
    END;
