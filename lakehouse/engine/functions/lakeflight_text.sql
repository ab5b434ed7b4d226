-- lakeflight_text(document VARCHAR) -> VARCHAR
-- A string of JSON without its quotes, anything else as it is written.
-- example: lakeflight_text('"a\"b"') = a"b
-- example: lakeflight_text('null') = null
CREATE MACRO lakeflight_text(j) AS
    CASE WHEN starts_with(CAST(j AS VARCHAR), '"') THEN json_extract_string(j, '$') ELSE CAST(j AS VARCHAR) END;
