-- lakeflight_month_bin(month BIGINT, width BIGINT) -> TIMESTAMP_NS
-- The begin of the bin of so many months that a month is in; months are counted from that of 1970.
-- example: lakeflight_month_bin(-1, 3) = 1969-10-01 00:00:00
CREATE MACRO lakeflight_month_bin(m, width) AS
    CAST(DATE '1970-01-01' + to_months(CAST(m - (m % width + width) % width AS INTEGER)) AS TIMESTAMP_NS);
