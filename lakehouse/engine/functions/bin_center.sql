-- bin_center(value DOUBLE, size DOUBLE) -> DOUBLE
-- The middle of the bin of this size that a value lies in; zero is the middle of one.
-- list: numeric
-- example: bin_center(5, 10) = 10.0
-- example: bin_center(-5.0001, 10) = -10.0
CREATE MACRO bin_center(v, size) AS
    list_transform(
        [CAST(size AS DOUBLE)], lambda s: floor(lakeflight_quotient(CAST(v AS DOUBLE) + s / 2, s)) * s)[1];
