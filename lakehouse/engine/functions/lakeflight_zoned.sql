-- lakeflight_zoned(moment ANY) -> TIMESTAMP
-- Stands around AT TIME ZONE until it is known which way it turns: what is around it binds as for its answer.
CREATE MACRO lakeflight_zoned(t) AS CAST(t AS TIMESTAMP);
