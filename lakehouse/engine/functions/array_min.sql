-- array_min(list ANY[]) -> ANY
-- The least element.
-- list: numeric
-- example: array_min([3, 1, 2]) = 1
CREATE MACRO array_min(l) AS list_min(l);
