-- What a builder reads of one bucket: its blocks and what they refer to, and what its partitions hold already. ``seen`` and
-- ``find_timing`` are those of looks.sql.

-- name: read_bucket
WITH seen AS ({seen})
SELECT b.incarnation, b.dirty, b.marks, b.generation, b.src_digest, b.frozen, b.bucket_end
FROM seen
JOIN lakehouse_buckets b ON b.vid = seen.vid
WHERE b.bucket_begin = $6;

-- name: blocks_of_stream
SELECT b.*
FROM blocks b
WHERE b.stream_id = $1::uuid AND b.insert_time >= $2 AND b.insert_time < $3 AND $4::text IS NULL;

-- name: blocks_of_process
SELECT b.*
FROM blocks b
JOIN streams s ON s.stream_id = b.stream_id AND s.tags @> ARRAY[$4::text]
WHERE b.process_id = $1::uuid AND b.insert_time >= $2 AND b.insert_time < $3;

-- name: blocks_of_global
SELECT b.*
FROM blocks b
JOIN streams s ON s.stream_id = b.stream_id AND s.tags @> ARRAY[$4::text]
WHERE b.insert_time >= $2 AND b.insert_time < $3 AND $1::uuid IS NULL;

-- name: blocks_of_id
SELECT b.*
FROM blocks b
WHERE b.block_id = $1 AND b.insert_time >= (SELECT lakehouse_kept_from());

-- name: fetch_source
-- The blocks of one bucket in insert order; ties are broken by id, which makes the order part of the contract.
WITH source AS ({blocks})
SELECT
    source.block_id,
    source.stream_id,
    source.process_id,
    (extract(EPOCH FROM source.begin_time) * 1000000)::bigint AS begin_us,
    source.begin_ticks,
    (extract(EPOCH FROM source.end_time) * 1000000)::bigint AS end_us,
    source.end_ticks,
    source.nb_objects,
    source.object_offset,
    source.payload_size,
    (extract(EPOCH FROM source.insert_time) * 1000000)::bigint AS insert_us
FROM source
JOIN streams s ON s.stream_id = source.stream_id
JOIN processes p ON p.process_id = source.process_id
ORDER BY source.insert_time, source.block_id;

-- name: weigh_streams
-- What streams were registered with, in short. A sender may have put 100 MiB into one, and a bucket may have thousands.
SELECT
    s.stream_id,
    octet_length(s.dependencies_metadata)::bigint + octet_length(s.objects_metadata) + octet_length(words.text)
        AS size_bytes,
    sha256(
        sha256(s.dependencies_metadata) || sha256(s.objects_metadata) || convert_to(words.text, 'UTF8')
    ) AS digest
FROM streams s
CROSS JOIN LATERAL (SELECT json_build_array(s.tags, s.properties, s.format)::text OFFSET 0) AS words (text)
WHERE s.stream_id = ANY ($1::uuid[]);

-- name: weigh_processes
SELECT
    p.process_id,
    p.tsc_frequency,
    octet_length(words.text)::bigint AS size_bytes,
    sha256(convert_to(words.text, 'UTF8')) AS digest
FROM processes p
CROSS JOIN LATERAL (
    SELECT json_build_array(
        p.exe, p.username, p.realname, p.computer, p.distro, p.cpu_brand, p.tsc_frequency,
        extract(EPOCH FROM p.start_time), p.start_ticks, p.properties
    )::text
    OFFSET 0  -- made once, not once for each use
) AS words (text)
WHERE p.process_id = ANY ($1::uuid[]);

-- name: fetch_streams
SELECT
    stream_id,
    process_id,
    dependencies_metadata,
    objects_metadata,
    tags,
    properties,
    format,
    (extract(EPOCH FROM insert_time) * 1000000)::bigint AS insert_us
FROM streams
WHERE stream_id = ANY ($1::uuid[]);

-- name: fetch_processes
SELECT
    process_id,
    exe,
    username,
    realname,
    computer,
    distro,
    cpu_brand,
    tsc_frequency,
    (extract(EPOCH FROM start_time) * 1000000)::bigint AS start_us,
    start_ticks,
    (extract(EPOCH FROM insert_time) * 1000000)::bigint AS insert_us,
    parent_process_id,
    properties
FROM processes
WHERE process_id = ANY ($1::uuid[]);

-- name: read_buckets
-- All buckets of [$6, $7). One row of nulls: there are none. No row: the instance is gone.
WITH seen AS ({seen})
SELECT
    b.bucket_begin,
    b.bucket_end,
    b.incarnation,
    b.dirty,
    b.marks,
    b.generation,
    b.src_digest,
    b.frozen,
    b.sealed,
    b.timing_end_ticks,
    (extract(EPOCH FROM b.timing_end_time) * 1000000)::bigint AS timing_end_us
FROM seen
LEFT JOIN lakehouse_buckets b ON b.vid = seen.vid AND b.bucket_begin >= $6 AND b.bucket_begin < $7
ORDER BY b.bucket_begin;

-- name: fetch_merged
-- What the files of the buckets of [$2, $3) are.
SELECT
    p.ordinal,
    p.file_path,
    p.file_size,
    p.num_rows,
    p.min_event_ns,
    p.max_event_ns,
    (extract(EPOCH FROM p.max_sort_key_time) * 1000000)::bigint AS max_sort_key_us,
    p.block_ids,
    p.missing_blocks,
    p.tail_digest,
    o.sha256
FROM lakehouse_partitions p
LEFT JOIN lake_objects o ON o.object_id = p.object_id
WHERE p.vid = $1 AND p.bucket_begin >= $2 AND p.bucket_begin < $3
ORDER BY p.bucket_begin, p.ordinal;

-- name: fetch_included
-- Which blocks the bucket's partitions hold already, and the ordinals in use.
SELECT ordinal, block_ids
FROM lakehouse_partitions
WHERE (vid, bucket_begin) = ($1, $2)
ORDER BY ordinal;
