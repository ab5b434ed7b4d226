-- array_repeat(value ANY, times BIGINT) -> ANY[]
-- A list that has a value so many times.
-- list: string
-- example: array_repeat('x', 3) = [x, x, x]
CREATE MACRO array_repeat(x, n) AS list_transform(range(n), lambda i: x);
