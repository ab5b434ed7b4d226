-- lakeflight_document(document ANY) -> VARCHAR
-- A document as JSON text. Properties as a list of keys and values are an object of them, if no two have one key.
-- It is short, and without lambdas: what it stands in would take long to plan.
-- example: lakeflight_document([{'key': 'b', 'value': '1'}, {'key': 'a', 'value': 'x"y'}]) = {"a":"x\"y","b":"1"}
-- example: lakeflight_document('{ "a":1}') = { "a":1}
CREATE MACRO lakeflight_document(j) AS
    CASE
        WHEN typeof(j) LIKE 'STRUCT("key"%, "value"%)[]'
        THEN CAST(json_normalize(to_json(map_from_entries(CAST(j AS STRUCT("key" VARCHAR, "value" VARCHAR)[])))) AS VARCHAR)
        ELSE CAST(j AS VARCHAR)
    END;
