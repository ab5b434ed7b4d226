-- What an administrator sees of buckets, and takes away.

-- name: fetch_stale
-- Dirty buckets of an instance with some of the insert times of [$2, $3).
SELECT bucket_begin
FROM lakehouse_buckets
WHERE vid = $1 AND dirty AND bucket_end > $2 AND bucket_begin < $3
ORDER BY bucket_begin;

-- name: fetch_held
-- Partitions of an instance ($1, $2), in any version, inside of a window of insert time ($3, $4).
SELECT
    i.vid,
    i.view_set,
    i.instance_id,
    i.schema_hash,
    i.writer_version,
    p.bucket_begin,
    p.begin_insert_time,
    p.end_insert_time,
    b.frozen,
    count(p.file_path)::integer AS files,
    sum(p.num_rows)::bigint AS rows,
    sum(p.file_size)::bigint AS size_bytes
FROM view_instances i
JOIN lakehouse_partitions p ON p.vid = i.vid AND p.begin_insert_time >= $3 AND p.end_insert_time <= $4
JOIN lakehouse_buckets b ON b.vid = p.vid AND b.bucket_begin = p.bucket_begin
WHERE i.view_set = $1 AND i.instance_id = $2
GROUP BY i.vid, p.bucket_begin, p.begin_insert_time, p.end_insert_time, b.frozen
ORDER BY p.begin_insert_time, p.end_insert_time, i.vid;

-- name: one_retires
-- Whoever retires several buckets at once locks all of them: two of them never wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended('lakehouse_retire', 0));

-- name: lock_chosen
-- The buckets of partitions that are to go, before these, as whoever commits one of them does; all of them at once, in the
-- order in which everybody locks buckets. What is chosen by its file: $1 the store, $2 the keys; by its insert times: $3 to $7.
SELECT
FROM lakehouse_buckets
WHERE (vid, bucket_begin) IN (
    SELECT p.vid, p.bucket_begin
    FROM lake_objects o
    JOIN lakehouse_partitions p ON p.object_id = o.object_id
    WHERE o.store = $1 AND o.path = ANY ($2::text[])
    UNION ALL
    SELECT p.vid, p.bucket_begin
    FROM unnest($3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::bytea[])
        AS range (view_set, instance_id, begin, "end", schema_hash)
    JOIN view_instances i
        ON i.view_set = range.view_set AND i.instance_id = range.instance_id
        AND i.schema_hash = coalesce(range.schema_hash, i.schema_hash)
    JOIN lakehouse_partitions p
        ON p.vid = i.vid AND p.begin_insert_time = range.begin AND p.end_insert_time = range."end"
)
ORDER BY vid, bucket_begin
FOR UPDATE;

-- name: of_range
-- $1 view set, $2 instance, $3 and $4 insert times, $5 hash of the schema, if not any.
p.vid IN (
    SELECT vid FROM view_instances WHERE view_set = $1 AND instance_id = $2 AND schema_hash = coalesce($5, schema_hash)
)
    AND p.begin_insert_time = $3 AND p.end_insert_time = $4;

-- name: of_file
-- $1 the store, $2 the key.
p.object_id IN (SELECT object_id FROM lake_objects WHERE store = $1 AND path = $2);

-- name: fetch_chosen
-- The buckets of what is to go, which are locked: another may have been faster before that.
SELECT frozen
FROM lakehouse_buckets
WHERE (vid, bucket_begin) IN (SELECT p.vid, p.bucket_begin FROM lakehouse_partitions p WHERE {chosen})
ORDER BY vid, bucket_begin
FOR UPDATE;  -- none to wait for, but for what was added since

-- name: retire_chosen
-- Their objects are released and their buckets marked by what stands behind the table.
DELETE FROM lakehouse_partitions p WHERE {chosen};
