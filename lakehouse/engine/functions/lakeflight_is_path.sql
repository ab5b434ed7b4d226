-- lakeflight_is_path(path VARCHAR) -> BOOLEAN
-- Whether it is a path that we walk: the engine finds nothing, without a word, on many that it cannot read.
-- example: lakeflight_is_path('$.a["b c"][0][*][last].*') = true
-- example: lakeflight_is_path('$.a ? (@.b == 1)') = false
CREATE MACRO lakeflight_is_path(path) AS
    regexp_full_match(CAST(path AS VARCHAR), '\$(\.[^\s.\[\]"''?*()@$#,:&|!<>=\\]+|\."[^"\\]*"|\.\*|\["[^"\\]*"\]|\[[0-9]+\]|\[\*\]|\[last\])*');
