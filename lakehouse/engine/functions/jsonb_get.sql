-- jsonb_get(document VARCHAR, key VARCHAR) -> VARCHAR
-- The member of an object, as JSON. A name that differs only in capitals is taken where none is spelled exactly so. NULL where there is none, or no object.
-- list: string
-- example: jsonb_get('{"name":"value"}', 'name') = "value"
-- example: jsonb_get('{"Name":[1]}', 'name') = [1]
CREATE MACRO jsonb_get(j, k) AS
    CAST(list_transform([lakeflight_document(j)], lambda x: lakeflight_get(x, k))[1] AS VARCHAR);
