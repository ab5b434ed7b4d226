-- sum_histograms(histogram STRUCT(start DOUBLE, end DOUBLE, min DOUBLE, max DOUBLE, sum DOUBLE, sum_sq DOUBLE, count UBIGINT, bins UBIGINT[])) -> STRUCT(start DOUBLE, end DOUBLE, min DOUBLE, max DOUBLE, sum DOUBLE, sum_sq DOUBLE, count UBIGINT, bins UBIGINT[])
-- One histogram of the values of all; NULL counts for none. All must have the same bounds and bins.
-- kind: aggregate
-- list: numeric
-- example: (SELECT sum_histograms(h).bins FROM (SELECT make_histogram(0, 20, 2, v) AS h FROM (VALUES (3), (99)) t(v) GROUP BY v)) = [1, 1]
CREATE MACRO sum_histograms(h) AS
    CASE
        WHEN count(h) = 0 THEN NULL
        WHEN min(struct_extract(h, 'start')) <> max(struct_extract(h, 'start')) OR min(struct_extract(h, 'end')) <> max(struct_extract(h, 'end'))
            OR min(len(struct_extract(h, 'bins'))) <> max(len(struct_extract(h, 'bins')))
        THEN error('sum_histograms cannot add histograms of other bounds or bins')
        ELSE {
            'start': min(struct_extract(h, 'start')),
            'end': max(struct_extract(h, 'end')),
            'min': min(struct_extract(h, 'min')),
            'max': max(struct_extract(h, 'max')),
            'sum': sum(struct_extract(h, 'sum')),
            'sum_sq': sum(struct_extract(h, 'sum_sq')),
            'count': CAST(sum(struct_extract(h, 'count')) AS UBIGINT),
            'bins': list_reduce(
                list(struct_extract(h, 'bins')) FILTER (WHERE h IS NOT NULL),
                lambda a, b: list_transform(list_zip(a, b), lambda pair: pair[1] + pair[2]))
        }
    END;
