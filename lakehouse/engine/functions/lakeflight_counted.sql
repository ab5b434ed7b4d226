-- lakeflight_counted(value TIMESTAMP_NS) -> BIGINT
-- What lakeflight_count gives, of an argument that is computed once.
-- example: lakeflight_counted(INTERVAL 1 SECOND + INTERVAL 1 SECOND) = 2000000000
CREATE MACRO lakeflight_counted(x) AS list_transform([x], lambda v: lakeflight_count(v))[1];
