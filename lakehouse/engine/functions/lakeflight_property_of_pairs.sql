-- lakeflight_property_of_pairs(properties STRUCT("key" VARCHAR, "value" VARCHAR)[], key VARCHAR) -> VARCHAR
-- The value of a property, of a list of keys and values.
-- example: lakeflight_property_of_pairs([{'key': 'a', 'value': 'x'}], 'a') = x
CREATE MACRO lakeflight_property_of_pairs(p, k) AS
    list_transform([p], lambda x: coalesce(
        list_filter(x, lambda e: struct_extract(e, 'key') = CAST(k AS VARCHAR))[1],
        list_filter(x, lambda e: struct_extract(e, 'key') = lakeflight_alike(list_transform(x, lambda a: struct_extract(a, 'key')), k))[1]
    ).value)[1];
