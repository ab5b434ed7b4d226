-- lakeflight_property_of_text(properties VARCHAR, key VARCHAR) -> VARCHAR
-- The value of a property, of JSON text.
-- example: lakeflight_property_of_text('{"a":1}', 'A') = 1
CREATE MACRO lakeflight_property_of_text(p, k) AS
    list_transform([p], lambda x: coalesce(
        json_extract_string(CASE WHEN regexp_full_match(CAST(k AS VARCHAR), '[0-9]+') THEN NULL ELSE x END, lakeflight_pointer(k)),
        CASE WHEN lakeflight_may_have(x, k) THEN lakeflight_text(lakeflight_get(x, k)) END))[1];
