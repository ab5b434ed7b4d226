-- jsonb_array_elements(document VARCHAR) -> TABLE(value VARCHAR)
-- The elements of a JSON array in their order. NULL has no rows. The document may be a subquery in parentheses that has one row.
-- kind: table
CREATE MACRO jsonb_array_elements(document) AS TABLE
    SELECT CAST(element AS VARCHAR) AS value
    FROM (
        SELECT unnest(CASE json_type(d)
            WHEN 'ARRAY' THEN json_extract(d, '$[*]')
            ELSE error('input of jsonb_array_elements is not a JSONB array')
        END) AS element
        FROM (SELECT CAST(document AS VARCHAR) AS d)
        WHERE d IS NOT NULL
    );
