-- jsonb_array_length(document VARCHAR) -> BIGINT
-- How many elements an array has. NULL for anything else.
-- list: string
-- example: jsonb_array_length('[1,2,3]') = 3
-- example: jsonb_array_length('{"key":1}') IS NULL = true
CREATE MACRO jsonb_array_length(j) AS
    CAST(list_transform([CAST(j AS VARCHAR)], lambda x: json_array_length(CASE WHEN json_type(x) = 'ARRAY' THEN x END))[1] AS BIGINT);
