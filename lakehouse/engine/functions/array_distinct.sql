-- array_distinct(list ANY[]) -> ANY[]
-- A list without what it had before, in its own order. NULL is an element like others. (list_distinct is the engine's: in any order, without NULL.)
-- example: array_distinct([3, 1, 3, 2]) = [3, 1, 2]
CREATE MACRO array_distinct(l) AS lakeflight_each_once(l);
