-- substr_index(text VARCHAR, delimiter VARCHAR, count BIGINT) -> VARCHAR
-- What stands before the delimiter that is the count-th from the left, or after it, counted from the right by a negative count; all of the text if there are fewer.
-- list: string
-- example: substr_index('www.apache.org', '.', 2) = www.apache
-- example: substr_index('www.apache.org', '.', -1) = org
-- example: substr_index('www.apache.org', '.', 9) = www.apache.org
-- example: substr_index('www', '.', 0) || '.' = .
CREATE MACRO substr_index(t, d, n) AS
    list_transform([string_split(CASE WHEN CAST(d AS VARCHAR) = '' THEN '' ELSE CAST(t AS VARCHAR) END, CAST(d AS VARCHAR))], lambda l: CASE
        WHEN l IS NULL OR n IS NULL THEN NULL
        WHEN n = 0 THEN ''
        ELSE coalesce(array_to_string(CASE WHEN n > 0 THEN l[:n] ELSE l[greatest(1, len(l) + n + 1):] END, CAST(d AS VARCHAR)), '')
    END)[1];
