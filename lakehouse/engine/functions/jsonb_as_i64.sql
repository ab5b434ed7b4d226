-- jsonb_as_i64(document VARCHAR) -> BIGINT
-- The value of a JSON number that is whole and has at most 64 bits with its sign. NULL for anything else.
-- list: numeric
-- example: jsonb_as_i64('321321321321') = 321321321321
-- example: jsonb_as_i64('2.5') IS NULL = true
CREATE MACRO jsonb_as_i64(j) AS
    list_transform([CAST(j AS VARCHAR)], lambda x: TRY_CAST(CASE WHEN json_type(x) IN ('BIGINT', 'UBIGINT') THEN x END AS BIGINT))[1];
