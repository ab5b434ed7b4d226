-- lakeflight_may_have(document VARCHAR, key VARCHAR) -> BOOLEAN
-- Whether the letters of a key are in a document at all, capitals or not; much faster than to read its keys.
-- example: lakeflight_may_have('{"Name":1}', 'NAME') = true
-- example: lakeflight_may_have('{"Name":1}', 'size') = false
CREATE MACRO lakeflight_may_have(j, k) AS contains(lower(j), lower(CAST(k AS VARCHAR))) OR contains(j, '\');
