-- property_get(properties VARCHAR, key VARCHAR) -> VARCHAR
-- The value of a property, as text; properties are JSON text or a list of keys and values. A key that differs only in capitals is taken where none is spelled exactly so.
-- list: string
-- example: property_get('{"build-version":"1.2.3","n":42}', 'build-version') = 1.2.3
-- example: property_get('{"build-version":"1.2.3","n":42}', 'N') = 42
-- example: property_get([{'key': 'service', 'value': 'shop'}], 'service') = shop
CREATE MACRO property_get(p VARCHAR, k) AS
    list_transform([p], lambda x: coalesce(
        json_extract_string(CASE WHEN regexp_full_match(CAST(k AS VARCHAR), '[0-9]+') THEN NULL ELSE x END, lakeflight_pointer(k)),
        CASE WHEN lakeflight_may_have(x, k) THEN lakeflight_text(lakeflight_get(x, k)) END))[1],
(p STRUCT("key" VARCHAR, "value" VARCHAR)[], k) AS
    list_transform([p], lambda x: coalesce(
        list_filter(x, lambda e: struct_extract(e, 'key') = CAST(k AS VARCHAR))[1],
        list_filter(x, lambda e: struct_extract(e, 'key') = lakeflight_alike(list_transform(x, lambda a: struct_extract(a, 'key')), k))[1]
    ).value)[1];
