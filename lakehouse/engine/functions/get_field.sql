-- get_field(value STRUCT, name VARCHAR) -> ANY
-- A member of a struct; its name is a literal.
-- list: string
-- example: get_field({'a': 1}, 'a') = 1
CREATE MACRO get_field(s, name) AS struct_extract(s, name);
