-- jsonb_array_elements(document VARCHAR) -> TABLE(value VARCHAR)
-- The elements of a JSON array in their order. NULL has no rows. The document may be a subquery in parentheses; of several rows all have theirs, one after the other.
-- kind: table
CREATE MACRO jsonb_array_elements(document) AS TABLE SELECT value FROM lakeflight_elements_of([document]);
