-- initcap(text VARCHAR) -> VARCHAR
-- A text with the first letter of each word large, the others small.
-- list: string
-- example: initcap('hello WORLD-wide') = Hello World-Wide
CREATE MACRO initcap(t) AS array_to_string(list_transform(regexp_extract_all(t, '[\p{L}\p{N}]+|[^\p{L}\p{N}]+'), lambda w: upper(w[1]) || lower(w[2:])), '');
