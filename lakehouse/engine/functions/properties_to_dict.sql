-- properties_to_dict(properties STRUCT(key VARCHAR, value VARCHAR)[]) -> STRUCT(key VARCHAR, value VARCHAR)[]
-- The same properties: which results have a dictionary is settled where they leave the server.
-- list: string
-- example: properties_to_dict([{'key': 'a', 'value': '1'}]) = [{'key': a, 'value': 1}]
CREATE MACRO properties_to_dict(p) AS p;
