-- jsonb_each(document VARCHAR) -> TABLE(key VARCHAR, value VARCHAR)
-- The members of a JSON object, or of the properties of a process or stream, in the order of their names; or the elements of an array with their positions from 0. NULL has no rows. The document may be a subquery in parentheses; of several rows all have theirs, one after the other.
-- kind: table
CREATE MACRO jsonb_each(document) AS TABLE SELECT key, value FROM lakeflight_each_of([document]);
