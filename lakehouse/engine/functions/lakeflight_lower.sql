-- lakeflight_lower(text VARCHAR) -> VARCHAR
-- Small letters for the capitals of ASCII, and for no others.
-- example: lakeflight_lower('ÄPFEL') = Äpfel
CREATE MACRO lakeflight_lower(t) AS translate(CAST(t AS VARCHAR), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz');
