-- substring(text VARCHAR, start BIGINT) -> VARCHAR
-- The same as substr; also as substring(text FROM start FOR count).
-- list: string
-- example: substring('alphabet' FROM 3 FOR 2) = ph
CREATE MACRO substring(t, s) AS system.main.substring(t, lakeflight_start(s)),
(t, s, n) AS system.main.substring(t, lakeflight_start(s), lakeflight_length(n));
