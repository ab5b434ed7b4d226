-- lakeflight_path(path VARCHAR) -> VARCHAR
-- A path as the engine spells it. One that it does not have is read by lakeflight_selected.
-- example: lakeflight_path('$.a["b c"][last]') = $.a."b c"[#-1]
CREATE MACRO lakeflight_path(path) AS
    CASE
        WHEN lakeflight_is_path(path)
        THEN replace(system.main.regexp_replace(CAST(path AS VARCHAR), '\["([^"\\]*)"\]', '."\1"', 'g'), '[last]', '[#-1]')
        ELSE '$'
    END;
