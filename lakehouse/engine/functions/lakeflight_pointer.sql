-- lakeflight_pointer(key VARCHAR) -> VARCHAR
-- The JSON pointer to a member of an object, whatever letters its name has.
-- example: lakeflight_pointer('a/b~c') = /a~1b~0c
CREATE MACRO lakeflight_pointer(k) AS '/' || replace(replace(CAST(k AS VARCHAR), '~', '~0'), '/', '~1');
