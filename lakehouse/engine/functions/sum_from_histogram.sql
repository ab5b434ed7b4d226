-- sum_from_histogram(histogram STRUCT(start DOUBLE, end DOUBLE, min DOUBLE, max DOUBLE, sum DOUBLE, sum_sq DOUBLE, count UBIGINT, bins UBIGINT[])) -> DOUBLE
-- The sum of the values that a histogram has counted.
-- list: numeric
-- example: sum_from_histogram(make_histogram(0, 20, 2, 3)) = 3.0
CREATE MACRO sum_from_histogram(h) AS CAST(struct_extract(h, 'sum') AS DOUBLE);
