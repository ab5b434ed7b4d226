-- variance_from_histogram(histogram STRUCT(start DOUBLE, end DOUBLE, min DOUBLE, max DOUBLE, sum DOUBLE, sum_sq DOUBLE, count UBIGINT, bins UBIGINT[])) -> DOUBLE
-- The variance of the sample that a histogram has counted, of its sums and not of its bins. NaN for fewer than two values.
-- list: numeric
-- example: (SELECT variance_from_histogram(make_histogram(0, 10, 5, v)) FROM (VALUES (1), (2), (3)) t(v)) = 1.0000000000000004
CREATE MACRO variance_from_histogram(h) AS
    list_transform([{'n': CAST(struct_extract(h, 'count') AS DOUBLE), 'sum': struct_extract(h, 'sum'), 'squares': struct_extract(h, 'sum_sq')}],
        lambda x: CASE WHEN struct_extract(x, 'n') < 2 THEN 'nan'::DOUBLE ELSE (struct_extract(x, 'squares') / struct_extract(x, 'n') - (struct_extract(x, 'sum') / struct_extract(x, 'n')) * (struct_extract(x, 'sum') / struct_extract(x, 'n'))) * struct_extract(x, 'n') / (struct_extract(x, 'n') - 1) END)[1];
