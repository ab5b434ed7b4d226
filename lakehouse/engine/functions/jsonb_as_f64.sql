-- jsonb_as_f64(document VARCHAR) -> DOUBLE
-- The value of a JSON number. NULL for anything else.
-- list: numeric
-- example: jsonb_as_f64('2.3') = 2.3
-- example: jsonb_as_f64('"2.3"') IS NULL = true
CREATE MACRO jsonb_as_f64(j) AS
    list_transform([CAST(j AS VARCHAR)], lambda x: TRY_CAST(CASE WHEN json_type(x) IN ('DOUBLE', 'BIGINT', 'UBIGINT') THEN x END AS DOUBLE))[1];
