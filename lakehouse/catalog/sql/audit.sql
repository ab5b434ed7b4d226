-- Whether what is materialized is what was sent: counts of blocks, asked anew of the blocks themselves.

-- name: source_of_stream
b.stream_id = $2::uuid AND $3::text IS NULL

-- name: source_of_process
b.process_id = $2::uuid AND s.tags @> ARRAY[$3::text]

-- name: source_of_global
$2::uuid IS NULL AND s.tags @> ARRAY[$3::text]

-- name: list_instances
-- Of the versions $1, $2, $3, after the number $4.
SELECT i.vid, i.view_set, i.instance_id, i.schema_hash, i.writer_version
FROM unnest($1::text[], $2::bytea[], $3::integer[]) AS version (view_set, schema_hash, writer_version)
JOIN view_instances i USING (view_set, schema_hash, writer_version)
WHERE i.vid > $4 AND i.looked_before IS NOT NULL
ORDER BY i.vid
LIMIT $5;

-- name: fetch_span
-- From its oldest bucket whose blocks are all kept to its newest.
SELECT min(bucket_begin) AS begin, max(bucket_end) AS end
FROM lakehouse_buckets
WHERE vid = $1 AND bucket_begin >= (SELECT lakehouse_kept_from());

-- name: fetch_differing
-- Closed buckets of the instance $1 in [$4, $5) that do not have as many blocks as there are.
SELECT k.bucket_begin, k.frozen, k.src_blocks, count(source.insert_time)::integer AS blocks
FROM lakehouse_buckets k
LEFT JOIN LATERAL (
    SELECT b.insert_time
    FROM blocks b
    JOIN streams s ON s.stream_id = b.stream_id
    JOIN processes p ON p.process_id = b.process_id
    WHERE b.insert_time >= k.bucket_begin AND b.insert_time < k.bucket_end AND {source}
) AS source ON true
WHERE k.vid = $1 AND k.bucket_begin >= $4 AND k.bucket_begin < $5
    AND k.bucket_begin >= (SELECT lakehouse_kept_from())
    AND k.sealed AND NOT k.dirty AND k.src_digest IS NOT NULL
GROUP BY k.bucket_begin, k.frozen, k.src_blocks
HAVING count(source.insert_time) <> k.src_blocks
ORDER BY k.bucket_begin;
