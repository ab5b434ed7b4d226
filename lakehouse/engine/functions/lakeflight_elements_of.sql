-- lakeflight_elements_of(documents VARCHAR[]) -> TABLE(value VARCHAR)
-- What jsonb_array_elements gives, of every document of a list. (Its message has the name in two parts, or this would seem to call it.)
-- kind: table
CREATE MACRO lakeflight_elements_of(documents) AS TABLE
    SELECT CAST(element AS VARCHAR) AS value
    FROM (
        SELECT unnest(CASE json_type(d)
            WHEN 'ARRAY' THEN json_extract(d, '$[*]')
            ELSE error('input of jsonb_' || 'array_elements is not a JSONB array')
        END) AS element
        FROM (SELECT CAST(unnest(documents) AS VARCHAR) AS d)
        WHERE d IS NOT NULL
    );
