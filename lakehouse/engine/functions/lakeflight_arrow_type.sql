-- lakeflight_arrow_type(value ANY) -> VARCHAR
-- The name that Arrow has for the type that a value has in results.
-- example: lakeflight_arrow_type(5::BIGINT) = Int64
-- example: lakeflight_arrow_type([1.5::DOUBLE]) = List(Float64)
-- example: lakeflight_arrow_type(TIMESTAMP '2026-01-01') = Timestamp(Nanosecond, Some("UTC"))
CREATE MACRO lakeflight_arrow_type(x) AS
    list_transform([system.main.regexp_replace(typeof(x), '(\[\])+$', '')], lambda t: repeat('List(', (len(typeof(x)) - len(t)) // 2) || coalesce(
        map_extract_value(
            map {'VARCHAR': 'Utf8', 'UUID': 'Utf8', 'JSON': 'Utf8', 'BOOLEAN': 'Boolean', 'BLOB': 'Binary', 'TINYINT': 'Int8', 'SMALLINT': 'Int16',
                'INTEGER': 'Int32', 'BIGINT': 'Int64', 'HUGEINT': 'Int64', 'UTINYINT': 'UInt8', 'USMALLINT': 'UInt16', 'UINTEGER': 'UInt32',
                'UBIGINT': 'UInt64', 'UHUGEINT': 'Int64', 'FLOAT': 'Float32', 'DOUBLE': 'Float64', 'DATE': 'Date32', 'TIME': 'Time64(Microsecond)',
                'TIME_NS': 'Time64(Nanosecond)', 'INTERVAL': 'Duration(Nanosecond)', '"NULL"': 'Null'},
            t),
        CASE WHEN t LIKE 'TIMESTAMP%' THEN 'Timestamp(Nanosecond, Some("UTC"))' END,
        CASE WHEN t LIKE 'DECIMAL%' THEN 'Decimal128' || replace(t[8:], ',', ', ') END,
        CASE WHEN t LIKE 'STRUCT%' THEN 'Struct' WHEN t LIKE 'MAP%' THEN 'Map' ELSE t END
    ) || repeat(')', (len(typeof(x)) - len(t)) // 2))[1];
