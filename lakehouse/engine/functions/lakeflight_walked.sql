-- lakeflight_walked(document VARCHAR, path VARCHAR) -> VARCHAR
-- The document, if the path is one that we walk.
-- example: lakeflight_walked('{}', '$.a') = {}
CREATE MACRO lakeflight_walked(j, path) AS
    CASE
        WHEN path IS NULL THEN NULL
        WHEN lakeflight_is_path(path) THEN j
        ELSE error('the path ' || left(CAST(path AS VARCHAR), 100) || ' is not made of $, .name, ["name"], [0], [last], [*] and .*: filters and ranges are not supported, unnest the array and use WHERE')
    END;
