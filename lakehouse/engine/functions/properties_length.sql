-- properties_length(properties VARCHAR) -> INTEGER
-- How many properties there are, in JSON text or in a list of keys and values.
-- list: numeric
-- example: properties_length('{"a":"1","b":"2"}') = 2
-- example: properties_length([{'key': 'a', 'value': '1'}]) = 1
CREATE MACRO properties_length(p) AS
    CASE
        WHEN lakeflight_is_pairs(p) THEN lakeflight_length_of_pairs(CAST(p AS STRUCT("key" VARCHAR, "value" VARCHAR)[]))
        ELSE lakeflight_length_of_text(CAST(p AS VARCHAR))
    END;
