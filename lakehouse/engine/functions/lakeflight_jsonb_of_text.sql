-- lakeflight_jsonb_of_text(properties VARCHAR) -> VARCHAR
-- Properties as a JSON object, of JSON text.
-- example: lakeflight_jsonb_of_text('{"a":1}') = {"a":1}
CREATE MACRO lakeflight_jsonb_of_text(p) AS CAST(json_normalize(p) AS VARCHAR);
