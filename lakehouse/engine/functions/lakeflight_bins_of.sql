-- lakeflight_bins_of(histograms STRUCT(start DOUBLE, end DOUBLE, min DOUBLE, max DOUBLE, sum DOUBLE, sum_sq DOUBLE, count UBIGINT, bins UBIGINT[])[]) -> TABLE(bin_center DOUBLE, count UBIGINT)
-- What expand_histogram gives, of every histogram of a list.
-- kind: table
CREATE MACRO lakeflight_bins_of(histograms) AS TABLE
    SELECT
        first + (bin + 0.5) * CASE WHEN first = last THEN 1 ELSE (last - first) / len(bins) END AS bin_center,
        CAST(bins[bin + 1] AS UBIGINT) AS count
    FROM (
        SELECT
            CAST(struct_extract(h, 'start') AS DOUBLE) AS first, CAST(struct_extract(h, 'end') AS DOUBLE) AS last,
            struct_extract(h, 'bins') AS bins, unnest(range(len(struct_extract(h, 'bins')))) AS bin
        FROM (SELECT unnest(histograms) AS h)
    );
