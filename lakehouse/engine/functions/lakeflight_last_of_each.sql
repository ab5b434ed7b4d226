-- lakeflight_last_of_each(properties STRUCT(key VARCHAR, value VARCHAR)[]) -> STRUCT(key VARCHAR, value VARCHAR)[]
-- Of several properties with one key the last, in the order of the keys.
-- example: lakeflight_last_of_each([{'key': 'b', 'value': '1'}, {'key': 'a', 'value': '2'}, {'key': 'b', 'value': '3'}]) = [{'key': a, 'value': 2}, {'key': b, 'value': 3}]
CREATE MACRO lakeflight_last_of_each(p) AS
    list_transform(
        [list_sort(list_transform(p, lambda e, i: {'key': struct_extract(e, 'key'), 'i': i, 'value': struct_extract(e, 'value')}))],
        lambda s: list_transform(
            list_filter(list_zip(s, s[2:]), lambda pair: pair[2] IS NULL OR pair[1].key <> pair[2].key),
            lambda pair: {'key': pair[1].key, 'value': pair[1].value}))[1];
