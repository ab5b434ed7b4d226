-- lakeflight_get(document VARCHAR, key VARCHAR) -> VARCHAR
-- The body of jsonb_get, over the name of a document: it stands in it several times.
-- example: lakeflight_get('{"Name":[1]}', 'name') = [1]
CREATE MACRO lakeflight_get(x, k) AS
    coalesce(
        lakeflight_member(x, k),
        json_extract(x, lakeflight_pointer(lakeflight_alike(json_keys(CASE WHEN lakeflight_may_have(x, k) THEN x END), k))));
