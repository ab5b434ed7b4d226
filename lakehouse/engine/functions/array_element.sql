-- array_element(list ANY[], place BIGINT) -> ANY
-- The element at a place, from 1, or from -1 at the end; NULL where there is none.
-- list: string
-- example: array_element([7, 8], 2) = 8
-- example: array_element([7, 8], -1) = 8
CREATE MACRO array_element(l, i) AS list_extract(l, i);
