-- lakeflight_length_of_pairs(properties STRUCT("key" VARCHAR, "value" VARCHAR)[]) -> INTEGER
-- How many properties there are, of a list of keys and values.
-- example: lakeflight_length_of_pairs([{'key': 'a', 'value': 'x'}]) = 1
CREATE MACRO lakeflight_length_of_pairs(p) AS CAST(len(p) AS INTEGER);
