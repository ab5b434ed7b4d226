-- jsonb_object_keys(document VARCHAR) -> VARCHAR[]
-- The names of an object's members, in order. NULL for anything else.
-- list: string
-- example: jsonb_object_keys('{"port":1,"name":"x"}') = [name, port]
-- example: jsonb_object_keys('[1]') IS NULL = true
CREATE MACRO jsonb_object_keys(j) AS
    list_transform([lakeflight_document(j)], lambda x: list_sort(json_keys(CASE WHEN json_type(x) = 'OBJECT' THEN x END)))[1];
