-- quantile_from_histogram(histogram STRUCT(start DOUBLE, end DOUBLE, min DOUBLE, max DOUBLE, sum DOUBLE, sum_sq DOUBLE, count UBIGINT, bins UBIGINT[]), quantile DOUBLE) -> DOUBLE
-- The value below which this part of a histogram's values lies, interpolated within its bin.
-- list: numeric
-- example: (SELECT quantile_from_histogram(make_histogram(0, 50, 5, v), 0.5) FROM (VALUES (5), (15), (25), (35), (45)) t(v)) = 25.0
CREATE MACRO quantile_from_histogram(h, q) AS
    lakeflight_quantile(
        CAST(h AS STRUCT("start" DOUBLE, "end" DOUBLE, "min" DOUBLE, "max" DOUBLE, "sum" DOUBLE, "sum_sq" DOUBLE, "count" UBIGINT, "bins" UBIGINT[])),
        CAST(q AS DOUBLE));
