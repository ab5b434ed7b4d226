-- property_get(properties VARCHAR, key VARCHAR) -> VARCHAR
-- The value of a property, as text; properties are JSON text or a list of keys and values. A key that differs only in capitals is taken where none is spelled exactly so.
-- list: string
-- example: property_get('{"build-version":"1.2.3","n":42}', 'build-version') = 1.2.3
-- example: property_get('{"build-version":"1.2.3","n":42}', 'N') = 42
-- example: property_get([{'key': 'service', 'value': 'shop'}], 'service') = shop
CREATE MACRO property_get(p, k) AS
    CASE
        WHEN lakeflight_is_pairs(p) THEN lakeflight_property_of_pairs(CAST(p AS STRUCT("key" VARCHAR, "value" VARCHAR)[]), k)
        ELSE lakeflight_property_of_text(CAST(p AS VARCHAR), k)
    END;
