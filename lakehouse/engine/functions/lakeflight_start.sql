-- lakeflight_start(place BIGINT) -> BIGINT
-- Where a piece of a text begins. Below 0 the engine counts from the end, and the original from before the text.
-- example: lakeflight_start(0) = 0
CREATE MACRO lakeflight_start(s) AS
    list_transform([s], lambda n: CASE
        WHEN n < 0 THEN error('a piece of a text begins at 0 or later, not at ' || CAST(n AS VARCHAR) || ': right(text, n) is its end')
        ELSE n
    END)[1];
