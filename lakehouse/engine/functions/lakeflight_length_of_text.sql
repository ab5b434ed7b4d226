-- lakeflight_length_of_text(properties VARCHAR) -> INTEGER
-- How many properties there are, of JSON text.
-- example: lakeflight_length_of_text('{"a":1}') = 1
CREATE MACRO lakeflight_length_of_text(p) AS CAST(len(json_keys(p)) AS INTEGER);
