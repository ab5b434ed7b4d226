-- lakeflight_each_once(list ANY[]) -> ANY[]
-- A list without what it had before. Of list_distinct the order is anybody's, and it leaves NULL out.
-- example: lakeflight_each_once([3, 1, 3, NULL, 1, NULL]) = [3, 1, NULL]
CREATE MACRO lakeflight_each_once(l) AS
    list_transform([l], lambda k: list_filter(k, lambda x, i: list_position(k, x) = i))[1];
