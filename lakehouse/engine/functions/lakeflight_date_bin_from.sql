-- lakeflight_date_bin_from(width INTERVAL, moment TIMESTAMP_NS, origin BIGINT) -> TIMESTAMP_NS
-- The same with bins that are counted from nanoseconds after 1970; whole months are counted from 1970 alone.
-- example: lakeflight_date_bin_from(INTERVAL 10 SECOND, TIMESTAMP_NS '1970-01-01 00:00:19', 5000000003) = 1970-01-01 00:00:15.000000003
CREATE MACRO lakeflight_date_bin_from(w, t, o) AS
    CASE
        WHEN w <= INTERVAL 0 SECOND THEN error('the width of bins must be more than nothing, not ' || CAST(w AS VARCHAR))
        WHEN (datepart('year', w) <> 0 OR datepart('month', w) <> 0) AND o = 0 THEN lakeflight_date_bin(w, t)
        WHEN datepart('year', w) <> 0 OR datepart('month', w) <> 0
        THEN error('bins are counted in whole months from 1970, or in days and less: not in ' || CAST(w AS VARCHAR))
        ELSE list_transform([epoch_ns(t)], lambda x: make_timestamp_ns(x - ((x - o) % epoch_ns(w) + epoch_ns(w)) % epoch_ns(w)))[1]
    END;
