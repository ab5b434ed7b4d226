-- count_from_histogram(histogram STRUCT(start DOUBLE, end DOUBLE, min DOUBLE, max DOUBLE, sum DOUBLE, sum_sq DOUBLE, count UBIGINT, bins UBIGINT[])) -> UBIGINT
-- How many values a histogram has counted.
-- list: numeric
-- example: count_from_histogram(make_histogram(0, 20, 2, 3)) = 1
CREATE MACRO count_from_histogram(h) AS CAST(struct_extract(h, 'count') AS UBIGINT);
