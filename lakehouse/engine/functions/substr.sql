-- substr(text VARCHAR, start BIGINT) -> VARCHAR
-- The characters of a text from a place on, counted from 1, or so many of them as a third argument says. A place below 0 is refused: right(text, n) is the end of a text.
-- list: string
-- example: substr('alphabet', 3) = phabet
-- example: substr('alphabet', 3, 2) = ph
-- example: substr('alphabet', 0, 5) = alph
CREATE MACRO substr(t, s) AS system.main.substr(t, lakeflight_start(s)),
(t, s, n) AS system.main.substr(t, lakeflight_start(s), lakeflight_length(n));
