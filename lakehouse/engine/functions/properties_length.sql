-- properties_length(properties VARCHAR) -> INTEGER
-- How many properties there are, in JSON text or in a list of keys and values.
-- list: numeric
-- example: properties_length('{"a":"1","b":"2"}') = 2
-- example: properties_length([{'key': 'a', 'value': '1'}]) = 1
CREATE MACRO properties_length(p VARCHAR) AS CAST(len(json_keys(p)) AS INTEGER),
(p STRUCT("key" VARCHAR, "value" VARCHAR)[]) AS CAST(len(p) AS INTEGER);
