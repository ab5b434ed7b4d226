-- jsonb_as_string(document VARCHAR) -> VARCHAR
-- The text of a JSON string. NULL for anything else: numbers are not made into text.
-- list: string
-- example: jsonb_as_string('"value"') = value
-- example: jsonb_as_string('1') IS NULL = true
CREATE MACRO jsonb_as_string(j) AS
    list_transform([CAST(j AS VARCHAR)], lambda x: json_extract_string(CASE WHEN json_type(x) = 'VARCHAR' THEN x END, '$'))[1];
