-- lakeflight_date_bin(width INTERVAL, moment TIMESTAMP_NS, origin BIGINT) -> TIMESTAMP_NS
-- The body of date_bin. The time is computed once; what is asked of the width, nearly always a constant, stays outside of the lambdas,
-- where it is worked out before anything runs. Whole months are counted from 1970 alone.
-- example: lakeflight_date_bin(INTERVAL 10 SECOND, TIMESTAMP_NS '1970-01-01 00:00:19', 5000000000) = 1970-01-01 00:00:15
CREATE MACRO lakeflight_date_bin(w, t, o) AS
    CASE
        WHEN w <= INTERVAL 0 SECOND THEN error('the width of bins must be more than nothing, not ' || CAST(w AS VARCHAR))
        WHEN datepart('year', w) = 0 AND datepart('month', w) = 0
        THEN list_transform([epoch_ns(t)], lambda x: make_timestamp_ns(x - ((x - o) % epoch_ns(w) + epoch_ns(w)) % epoch_ns(w)))[1]
        WHEN o <> 0 OR w <> to_months(CAST(datepart('year', w) * 12 + datepart('month', w) AS INTEGER))
        THEN error('bins are counted in whole months from 1970, or in days and less: not in ' || CAST(w AS VARCHAR))
        ELSE list_transform(
            [lakeflight_us(t)],
            lambda x: lakeflight_month_bin((datepart('year', x) - 1970) * 12 + datepart('month', x) - 1, datepart('year', w) * 12 + datepart('month', w)))[1]
    END;
