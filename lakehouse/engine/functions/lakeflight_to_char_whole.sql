-- lakeflight_to_char_whole(time TIMESTAMP_NS, format VARCHAR) -> VARCHAR
-- The body of to_char where the format has no parts of a second.
-- example: lakeflight_to_char_whole(TIMESTAMP_NS '1969-12-31 23:59:59.999999999', '%H:%M:%S') = 23:59:59
CREATE MACRO lakeflight_to_char_whole(t, f) AS strftime(CAST(t AS TIMESTAMP_NS), f);
