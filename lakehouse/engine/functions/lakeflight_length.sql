-- lakeflight_length(count BIGINT) -> BIGINT
-- How long a piece of a text is. Below 0 the engine goes backwards, which the original refuses.
-- example: lakeflight_length(2) = 2
CREATE MACRO lakeflight_length(c) AS
    list_transform([c], lambda n: CASE WHEN n < 0 THEN error('a piece of a text has 0 characters or more, not ' || CAST(n AS VARCHAR)) ELSE n END)[1];
