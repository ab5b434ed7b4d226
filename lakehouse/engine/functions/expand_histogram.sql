-- expand_histogram(histogram STRUCT(start DOUBLE, end DOUBLE, min DOUBLE, max DOUBLE, sum DOUBLE, sum_sq DOUBLE, count UBIGINT, bins UBIGINT[])) -> TABLE(bin_center DOUBLE, count UBIGINT)
-- A row for each bin of a histogram: the middle between its bounds, and how many values are in it. NULL has no rows. The histogram may be a subquery in parentheses; of several rows all have theirs, one after the other.
-- kind: table
CREATE MACRO expand_histogram(histogram) AS TABLE SELECT bin_center, count FROM lakeflight_bins_of([histogram]);
