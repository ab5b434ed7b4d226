-- array_max(list ANY[]) -> ANY
-- The greatest element.
-- list: numeric
-- example: array_max([1, 3, 2]) = 3
CREATE MACRO array_max(l) AS list_max(l);
