-- jsonb_parse(text VARCHAR) -> VARCHAR
-- The document in its one spelling: compact, keys in order. NULL where the text is not JSON.
-- list: string
-- example: jsonb_parse('{ "name" : "value", "a" : 1e3 }') = {"a":1000.0,"name":"value"}
-- example: jsonb_parse('{ not json... }') IS NULL = true
CREATE MACRO jsonb_parse(t) AS
    CAST(list_transform([CAST(t AS VARCHAR)], lambda x: json_normalize(CASE WHEN json_valid(x) THEN x END))[1] AS VARCHAR);
