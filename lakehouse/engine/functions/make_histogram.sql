-- make_histogram(start DOUBLE, end DOUBLE, bins BIGINT, value DOUBLE) -> STRUCT(start DOUBLE, end DOUBLE, min DOUBLE, max DOUBLE, sum DOUBLE, sum_sq DOUBLE, count UBIGINT, bins UBIGINT[])
-- How many values lie in each of 1 to 65,536 bins of one width between start and end; what lies outside counts in the nearest, NULL not at all. NULL where there are no rows. Its bounds are finite and the same in all rows.
-- kind: aggregate
-- list: numeric
-- example: make_histogram(0, 20, 2, 3).bins = [1, 0]
-- example: make_histogram(0, 20, 2, 99) = {'start': 0.0, 'end': 20.0, 'min': 99.0, 'max': 99.0, 'sum': 99.0, 'sum_sq': 9801.0, 'count': 1, 'bins': [0, 1]}
CREATE MACRO make_histogram(lo, hi, n, v) AS
    CASE
        WHEN count(*) = 0 THEN NULL
        WHEN count(lo) < count(*) OR count(hi) < count(*) OR count(n) < count(*) THEN error('the bounds and bins of make_histogram must not be NULL')
        WHEN min(CAST(lo AS DOUBLE)) <> max(CAST(lo AS DOUBLE)) OR min(CAST(hi AS DOUBLE)) <> max(CAST(hi AS DOUBLE)) OR min(CAST(n AS BIGINT)) <> max(CAST(n AS BIGINT))
        THEN error('the bounds and bins of make_histogram must be the same in all rows')
        WHEN NOT isfinite(min(CAST(lo AS DOUBLE))) OR NOT isfinite(max(CAST(hi AS DOUBLE))) THEN error('the bounds of make_histogram must be finite')
        WHEN min(CAST(lo AS DOUBLE)) > max(CAST(hi AS DOUBLE)) THEN error('the start of make_histogram must not lie after its end')
        WHEN min(CAST(n AS BIGINT)) NOT BETWEEN 1 AND 65536 THEN error('make_histogram takes 1 to 65536 bins')
        ELSE {
            'start': min(CAST(lo AS DOUBLE)),
            'end': max(CAST(hi AS DOUBLE)),
            'min': coalesce(min(CAST(v AS DOUBLE)) FILTER (WHERE NOT isnan(CAST(v AS DOUBLE))), 1.7976931348623157e308),
            'max': coalesce(max(CAST(v AS DOUBLE)) FILTER (WHERE NOT isnan(CAST(v AS DOUBLE))), -1.7976931348623157e308),
            'sum': coalesce(sum(CAST(v AS DOUBLE)), 0),
            'sum_sq': coalesce(sum(CAST(v AS DOUBLE) * CAST(v AS DOUBLE)), 0),
            'count': CAST(count(v) AS UBIGINT),
            'bins': coalesce(
                map_values(histogram_exact(lakeflight_bin(v, lo, hi, n), range(CASE WHEN CAST(n AS BIGINT) BETWEEN 1 AND 65536 THEN CAST(n AS BIGINT) ELSE 1 END)))[1:max(CAST(n AS BIGINT))],
                list_transform(range(max(CAST(n AS BIGINT))), lambda i: CAST(0 AS UBIGINT)))
        }
    END;
