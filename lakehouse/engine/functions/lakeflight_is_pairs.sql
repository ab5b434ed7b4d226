-- lakeflight_is_pairs(properties VARCHAR) -> BOOLEAN
-- Whether properties are a list of keys and values, which their type says before anything runs: overloads would not be told of an aggregate.
-- example: lakeflight_is_pairs([{'key': 'a', 'value': 'b'}]) = true
-- example: lakeflight_is_pairs('[{"key": "a"}]') = false
CREATE MACRO lakeflight_is_pairs(p) AS typeof(p) LIKE 'STRUCT("key"%, "value"%)[]';
