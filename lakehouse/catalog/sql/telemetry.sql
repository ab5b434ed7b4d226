-- What ingestion writes. The first registration of an id wins, and a repeated one is no error: senders deliver again.

-- name: insert_process
INSERT INTO processes (
    process_id, exe, username, realname, computer, distro, cpu_brand, tsc_frequency, start_time, start_ticks,
    parent_process_id, properties
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (process_id) DO NOTHING;

-- name: insert_stream
INSERT INTO streams (stream_id, process_id, dependencies_metadata, objects_metadata, tags, properties, format)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (stream_id) DO NOTHING;

-- name: insert_blocks
-- A group in one statement; returns the ids that are new. The column's default would ask for the transaction's id row by row.
WITH stamp AS (SELECT lakehouse_xid() AS ingest_xid)
INSERT INTO blocks (
    block_id, stream_id, process_id, begin_time, begin_ticks, end_time, end_ticks, nb_objects, object_offset,
    payload_size, ingest_xid
)
SELECT block.*, stamp.ingest_xid
FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::timestamptz[], $7::bigint[],
    $8::integer[], $9::bigint[], $10::bigint[]
) AS block
CROSS JOIN stamp
ON CONFLICT (block_id) DO NOTHING
RETURNING block_id;
