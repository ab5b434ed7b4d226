-- array_sort(list ANY[]) -> ANY[]
-- A list in order, NULL first. A second argument is 'ASC' or 'DESC', a third 'NULLS FIRST' or 'NULLS LAST'.
-- example: array_sort([3, NULL, 1]) = [NULL, 1, 3]
-- example: array_sort([3, NULL, 1], 'DESC') = [NULL, 3, 1]
-- example: array_sort([3, NULL, 1], 'ASC', 'NULLS LAST') = [1, 3, NULL]
CREATE MACRO array_sort(l) AS list_sort(l, 'ASC', 'NULLS FIRST'),
(l, direction) AS list_sort(l, direction, 'NULLS FIRST'),
(l, direction, nulls) AS list_sort(l, direction, nulls);
