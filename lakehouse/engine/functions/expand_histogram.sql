-- expand_histogram(histogram STRUCT(start DOUBLE, end DOUBLE, min DOUBLE, max DOUBLE, sum DOUBLE, sum_sq DOUBLE, count UBIGINT, bins UBIGINT[])) -> TABLE(bin_center DOUBLE, count UBIGINT)
-- A row for each bin of a histogram: the middle between its bounds, and how many values are in it. NULL has no rows. The histogram may be a subquery in parentheses that has one row.
-- kind: table
CREATE MACRO expand_histogram(histogram) AS TABLE
    SELECT
        first + (bin + 0.5) * CASE WHEN first = last THEN 1 ELSE (last - first) / len(bins) END AS bin_center,
        CAST(bins[bin + 1] AS UBIGINT) AS count
    FROM (
        SELECT
            CAST(struct_extract(h, 'start') AS DOUBLE) AS first, CAST(struct_extract(h, 'end') AS DOUBLE) AS last,
            struct_extract(h, 'bins') AS bins, unnest(range(len(struct_extract(h, 'bins')))) AS bin
        FROM (SELECT histogram AS h)
    );
