-- array_sum(list ANY[]) -> ANY
-- The sum of the elements.
-- list: numeric
-- example: array_sum([1, 3, NULL, 2]) = 6
CREATE MACRO array_sum(l) AS list_sum(l);
