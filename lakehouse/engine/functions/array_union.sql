-- array_union(one ANY[], other ANY[]) -> ANY[]
-- The elements of two lists, each once, in the order in which they come first. NULL is an element like others.
-- list: string
-- example: array_union([1, 2, 2], [3, 1]) = [1, 2, 3]
-- example: array_union(['a', NULL], [NULL, 'b']) = [a, NULL, b]
-- example: array_union([], [1]) = [1]
CREATE MACRO array_union(a, b) AS
    CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN lakeflight_each_once(list_concat(a, b)) END;
