-- array_except(one ANY[], other ANY[]) -> ANY[]
-- The elements of a list that another has not, each once, in their order. NULL is an element like others.
-- list: string
-- example: array_except([1, 2, 2, 3], [3, 4]) = [1, 2]
-- example: array_except([NULL, 1], [1]) = [NULL]
-- example: array_except([NULL, 1], [NULL]) = [1]
CREATE MACRO array_except(a, b) AS
    list_transform([{'a': a, 'b': b}], lambda s: CASE WHEN struct_extract(s, 'a') IS NOT NULL AND struct_extract(s, 'b') IS NOT NULL
        THEN list_filter(
            lakeflight_each_once(struct_extract(s, 'a')),
            lambda x: list_position(struct_extract(s, 'b'), x) IS NULL)
    END)[1];
