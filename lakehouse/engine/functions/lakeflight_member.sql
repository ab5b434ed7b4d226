-- lakeflight_member(document VARCHAR, key VARCHAR) -> VARCHAR
-- The member of exactly this name. A pointer of digits would reach into arrays too.
-- example: lakeflight_member('[7]', '0') IS NULL = true
CREATE MACRO lakeflight_member(j, k) AS
    json_extract(CASE WHEN regexp_full_match(CAST(k AS VARCHAR), '[0-9]+') AND json_type(j) <> 'OBJECT' THEN NULL ELSE j END, lakeflight_pointer(k));
