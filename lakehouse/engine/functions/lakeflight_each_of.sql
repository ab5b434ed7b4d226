-- lakeflight_each_of(documents VARCHAR[]) -> TABLE(key VARCHAR, value VARCHAR)
-- What jsonb_each gives, of every document of a list. (Its message has the name in two parts, or this would seem to call it.)
-- kind: table
CREATE MACRO lakeflight_each_of(documents) AS TABLE
    SELECT member.key AS key, member.value AS value
    FROM (
        SELECT unnest(CASE
            WHEN is_pairs
            THEN list_transform(list_sort(list_zip(json_extract_string(d, '$[*].key'), json_extract(d, '$[*].value'))), lambda m: {'key': m[1], 'value': CAST(m[2] AS VARCHAR)})
            WHEN json_type(d) = 'OBJECT'
            THEN list_transform(list_sort(list_zip(json_keys(d), json_extract(d, '$.*'))), lambda m: {'key': m[1], 'value': CAST(m[2] AS VARCHAR)})
            WHEN json_type(d) = 'ARRAY'
            THEN list_transform(json_extract(d, '$[*]'), lambda m, i: {'key': CAST(i - 1 AS VARCHAR), 'value': CAST(m AS VARCHAR)})
            ELSE error('input of jsonb_' || 'each is not a JSONB object or array')
        END) AS member
        FROM (
            SELECT
                typeof(given) LIKE 'STRUCT(%)[]' AS is_pairs,
                CASE WHEN is_pairs THEN CAST(to_json(given) AS VARCHAR) ELSE CAST(given AS VARCHAR) END AS d
            FROM (SELECT unnest(documents) AS given)
            WHERE given IS NOT NULL
        )
    );
