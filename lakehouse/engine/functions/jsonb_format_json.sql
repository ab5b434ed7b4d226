-- jsonb_format_json(document VARCHAR) -> VARCHAR
-- The document as compact text, keys in order.
-- list: string
-- example: jsonb_format_json(jsonb_get(jsonb_parse('{ "name" : "value" }'), 'name')) = "value"
CREATE MACRO jsonb_format_json(j) AS CAST(json_normalize(lakeflight_document(j)) AS VARCHAR);
