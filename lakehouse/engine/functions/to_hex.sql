-- to_hex(value BIGINT) -> VARCHAR
-- An integer in hex, in small letters; one below 0 with 16 digits.
-- list: string
-- example: to_hex(255) = ff
-- example: to_hex(-1) = ffffffffffffffff
CREATE MACRO to_hex(x) AS lower(system.main.to_hex(x));
