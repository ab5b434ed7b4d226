-- The rows of the metadata views: a SELECT per view, under its name, with every column that is the view's own. Columns
-- are plain here (uuid, timestamptz, bytea, json); whoever copies them out writes each as its declared type wants it, and
-- puts conditions around the SELECT, which Postgres moves inside. Who has sent blocks is in the notes of senders.sql, and in the
-- blocks that came since. {apart} keeps the planner from reading all blocks for these, where nothing else says which; {each} has it
-- look up what few rows refer to, where it would read all streams or processes to join them.

-- name: processes
-- A process shows once it has a block whose stream is registered, and for as long as one is kept.
SELECT
    p.process_id,
    p.exe,
    p.username,
    p.realname,
    p.computer,
    p.distro,
    p.cpu_brand,
    p.tsc_frequency,
    p.start_time,
    p.start_ticks,
    p.insert_time,
    coalesce(p.parent_process_id::text, '') AS parent_process_id,
    p.properties,
    last.insert_time AS last_update_time,
    last.end_ticks AS last_block_end_ticks,
    last.end_time AS last_block_end_time
FROM processes p
JOIN (
    SELECT b.process_id, max(b.insert_time) AS insert_time, max(b.end_ticks) AS end_ticks, max(b.end_time) AS end_time
    FROM ({sent}) AS b
    WHERE EXISTS (SELECT FROM streams s WHERE s.stream_id = b.stream_id {each})
        AND b.insert_time >= (SELECT lakehouse_kept_from())
    GROUP BY b.process_id
) AS last ON last.process_id = p.process_id;

-- name: streams
-- A stream shows once it has a block whose process is registered.
SELECT
    s.stream_id,
    s.process_id,
    s.dependencies_metadata,
    s.objects_metadata,
    s.tags,
    s.properties,
    s.insert_time,
    s.format,
    last.insert_time AS last_update_time
FROM streams s
JOIN (
    SELECT b.stream_id, max(b.insert_time) AS insert_time
    FROM ({sent}) AS b
    WHERE EXISTS (SELECT FROM processes p WHERE p.process_id = b.process_id {each})
        AND b.insert_time >= (SELECT lakehouse_kept_from())
    GROUP BY b.stream_id
) AS last ON last.stream_id = s.stream_id;

-- name: blocks
-- A block shows once its stream and its process are registered: it is then itself what has both of them show, so that it may
-- be joined with them or not.
SELECT
    b.block_id,
    b.stream_id,
    b.process_id,
    b.begin_time,
    b.begin_ticks,
    b.end_time,
    b.end_ticks,
    b.nb_objects,
    b.object_offset,
    b.payload_size,
    b.insert_time
FROM blocks b
WHERE
    EXISTS (SELECT FROM streams s WHERE s.stream_id = b.stream_id)
    AND EXISTS (SELECT FROM processes p WHERE p.process_id = b.process_id)
    AND b.insert_time >= (SELECT lakehouse_kept_from());

-- name: quarantined_blocks
SELECT q.block_id, q.stream_id, q.process_id, q.view_set, q.writer_version, q.error, q.time
FROM quarantined_blocks q;

-- name: list_partitions
SELECT
    p.view_set_name,
    p.view_instance_id,
    p.begin_insert_time,
    p.end_insert_time,
    p.min_event_time,
    p.max_event_time,
    p.updated,
    p.file_path,
    p.file_size,
    p.file_schema_hash,
    coalesce(p.source_data_hash, '') AS source_data_hash,
    p.num_rows,
    p.partition_format_version,
    p.sort_order,
    p.max_sort_key_time
FROM lakehouse_partitions p;
