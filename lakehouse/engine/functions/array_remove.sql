-- array_remove(list ANY[], value ANY) -> ANY[]
-- A list without the first element that is this value.
-- list: string
-- example: array_remove([1, 2, 3, 2], 2) = [1, 3, 2]
-- example: array_remove([1], 2) = [1]
CREATE MACRO array_remove(l, x) AS
    list_transform([{'l': l, 'i': list_position(l, x)}], lambda s: CASE
        WHEN struct_extract(s, 'i') > 0
        THEN list_concat(struct_extract(s, 'l')[:struct_extract(s, 'i') - 1], struct_extract(s, 'l')[struct_extract(s, 'i') + 1:])
        ELSE struct_extract(s, 'l')
    END)[1];
