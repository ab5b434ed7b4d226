-- string_to_array(text VARCHAR, delimiter VARCHAR) -> VARCHAR[]
-- The parts of a text between delimiters; the whole text where the delimiter is empty.
-- list: string
-- example: string_to_array('a,b', ',') = [a, b]
-- example: string_to_array('ab', '') = [ab]
CREATE MACRO string_to_array(t, d) AS CASE WHEN d = '' THEN [t] ELSE system.main.string_to_array(t, d) END;
