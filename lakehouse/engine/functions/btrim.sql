-- btrim(text VARCHAR) -> VARCHAR
-- A text without blanks, or without any of the letters of a second argument, at both ends.
-- list: string
-- example: btrim('  x ') = x
-- example: btrim('xyaxy', 'xy') = a
CREATE MACRO btrim(t) AS trim(t), (t, letters) AS trim(t, letters);
