-- retire_partition_by_metadata(view_set VARCHAR, instance VARCHAR, begin_insert_time TIMESTAMP_NS, end_insert_time TIMESTAMP_NS, file_schema_hash BLOB) -> VARCHAR
-- Removes the partitions of an instance with exactly this range of insert time, as `list_partitions()` has it, and says
-- SUCCESS, ERROR or ROLLED_BACK: of up to 2,048 rows that are called for at once all go, or none. Without the hash those of
-- every version. A query that reads the instance makes them again. For administrators; a column of the outermost SELECT,
-- without ORDER BY and LIMIT there.
CREATE MACRO retire_partition_by_metadata(view_set, instance, begin_insert_time, end_insert_time) AS
    lakeflight_retire_partitions(view_set, instance, begin_insert_time, end_insert_time, ''::BLOB),
    (view_set, instance, begin_insert_time, end_insert_time, file_schema_hash) AS
    lakeflight_retire_partitions(view_set, instance, begin_insert_time, end_insert_time, file_schema_hash);
