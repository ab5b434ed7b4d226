-- lakeflight_alike(keys VARCHAR[], key VARCHAR) -> VARCHAR
-- The first of the keys that is spelled like this one but for capitals.
-- example: lakeflight_alike(['name', 'Name', 'x'], 'NAME') = Name
CREATE MACRO lakeflight_alike(keys, k) AS list_sort(list_filter(keys, lambda x: lower(x) = lower(CAST(k AS VARCHAR)) AND lakeflight_lower(x) = lakeflight_lower(k)))[1];
