-- How a bucket is held while it is made, replaced, sealed, frozen, and how an instance goes.

-- name: take_lease
-- Only one builder at a time. No row: somebody holds it, and has renewed it in time.
INSERT INTO lakehouse_leases AS held (vid, bucket_begin, token, owner, expires_at)
SELECT $1, $2, $3, $4, clock_timestamp() + $5::interval
WHERE NOT EXISTS (
    SELECT FROM lakehouse_leases WHERE (vid, bucket_begin) = ($1, $2) AND expires_at >= clock_timestamp()
)
ON CONFLICT (vid, bucket_begin) DO UPDATE SET
    token = excluded.token,
    owner = excluded.owner,
    since = clock_timestamp(),
    expires_at = excluded.expires_at
WHERE held.expires_at < clock_timestamp()
RETURNING token;

-- name: find_lease
SELECT owner
FROM lakehouse_leases
WHERE (vid, bucket_begin) = ($1, $2);

-- name: renew_leases
-- Also those that have run out, if nobody has taken them. None is waited for whose bucket is just being replaced: the others
-- would wait with it, and run out.
UPDATE lakehouse_leases SET expires_at = clock_timestamp() + $2::interval
WHERE (vid, bucket_begin) IN (
    SELECT vid, bucket_begin
    FROM lakehouse_leases
    WHERE token = ANY ($1::uuid[])
    FOR UPDATE SKIP LOCKED
);

-- name: drop_lease
DELETE FROM lakehouse_leases WHERE (vid, bucket_begin, token) = ($1, $2, $3);

-- name: forget_leases
-- Of buckets that nobody wanted again since their holder was gone. Not those that have just run out: who holds them may still go on.
DELETE FROM lakehouse_leases WHERE expires_at < clock_timestamp() - $1::interval;

-- name: swap
-- The migration that merges buckets has what it does, and the next.
-- What is known of the files ($23 keys, $24 columns, $25 bits) is kept with them or not at all.
SELECT
    lakehouse_swap(
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22
    ),
    lakehouse_keep_filters($10, $23, $24, $25);

-- name: merge
SELECT
    lakehouse_merge($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18),
    lakehouse_keep_filters($9, $19, $20, $21);

-- name: fetch_buckets_of
-- The buckets whose partitions are in the objects $2.
SELECT DISTINCT bucket_begin
FROM lakehouse_partitions
WHERE vid = $1 AND file_path = ANY ($2::text[]);

-- name: clean_bucket
-- The blocks are those that are in the partitions already. Of a frozen bucket there may be others ($5), which it is without.
UPDATE lakehouse_buckets SET
    dirty = (marks <> $4),
    missing_blocks = coalesce($5, missing_blocks),
    updated = clock_timestamp()
WHERE (vid, bucket_begin, incarnation) = ($1, $2, $3);

-- name: seal_buckets
-- A bucket whose end lies before the oldest running transaction began can get no further block. Locked in the order in which
-- everybody locks buckets, and what is found is looked at again then.
UPDATE lakehouse_buckets b SET sealed = true
FROM (
    SELECT vid, bucket_begin
    FROM lakehouse_buckets
    WHERE NOT sealed
        AND NOT dirty
        AND bucket_end < (
            SELECT coalesce(min(xact_start), clock_timestamp()) - interval '10 seconds'
            FROM pg_stat_activity
            WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
        )
    ORDER BY vid, bucket_begin
    FOR UPDATE
) AS closed
WHERE b.vid = closed.vid AND b.bucket_begin = closed.bucket_begin;

-- name: fetch_fragmented
-- Sealed buckets that are still spread over several deltas. One that was made whole stays as it is, however many files
-- it needs. Only of the versions $3, $4, $5: files of another version have another schema, which the server that asks can
-- neither read nor write. Those after ($6, $7), so that buckets which cannot be made whole do not hide the others.
SELECT i.view_set, i.instance_id, i.schema_hash, i.writer_version, b.vid, b.bucket_begin
FROM unnest($3::text[], $4::bytea[], $5::integer[]) AS version (view_set, schema_hash, writer_version)
JOIN view_instances i
    ON i.view_set = version.view_set
    AND i.schema_hash = version.schema_hash
    AND i.writer_version = version.writer_version
JOIN lakehouse_buckets b ON b.vid = i.vid
WHERE b.sealed AND NOT b.dirty AND NOT b.whole
    AND ($6::timestamptz IS NULL OR (b.bucket_begin, b.vid) > ($6, $7::bigint))
    AND (
        SELECT count(*) FROM lakehouse_partitions p WHERE p.vid = b.vid AND p.bucket_begin = b.bucket_begin
    ) > $1
ORDER BY b.bucket_begin, b.vid
LIMIT $2;

-- name: settle_days
-- Closed days of which nothing is gained by merging: one bucket is all there is, or together they are larger than $1. So many
-- buckets at a time ($2), the oldest first.
WITH days AS (
    SELECT DISTINCT vid, date_trunc('day', bucket_begin, 'UTC') AS day
    FROM (
        SELECT vid, bucket_begin
        FROM lakehouse_buckets
        WHERE NOT settled AND sealed AND bucket_begin < date_trunc('day', clock_timestamp() - interval '1 hour', 'UTC')
        ORDER BY bucket_begin, vid
        LIMIT $2
    ) AS unsettled
),
unworthy AS (
    SELECT days.vid, days.day
    FROM days
    CROSS JOIN LATERAL (
        SELECT count(*) AS buckets
        FROM lakehouse_buckets o
        WHERE o.vid = days.vid AND o.bucket_begin >= days.day AND o.bucket_begin < days.day + interval '24 hours'
    ) AS all_of
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(p.file_size), 0) AS size_bytes
        FROM lakehouse_partitions p
        WHERE p.vid = days.vid AND p.bucket_begin >= days.day AND p.bucket_begin < days.day + interval '24 hours'
    ) AS files
    WHERE all_of.buckets = 1 OR files.size_bytes > $1
),
settling AS (
    SELECT b.vid, b.bucket_begin
    FROM unworthy
    JOIN lakehouse_buckets b
        ON b.vid = unworthy.vid
        AND b.bucket_begin >= unworthy.day AND b.bucket_begin < unworthy.day + interval '24 hours'
    WHERE b.sealed AND NOT b.settled
    ORDER BY b.vid, b.bucket_begin
    FOR UPDATE OF b
)
UPDATE lakehouse_buckets b SET settled = true
FROM settling
WHERE b.vid = settling.vid AND b.bucket_begin = settling.bucket_begin;

-- name: fetch_mergeable
-- Closed days of several buckets that are sealed and clean, all or none of them frozen, together not larger than $1. Only of the
-- versions $3, $4, $5, and those after ($6, $7).
SELECT i.view_set, i.instance_id, i.schema_hash, i.writer_version, i.vid, days.day AS bucket_begin
FROM (
    SELECT DISTINCT vid, date_trunc('day', bucket_begin, 'UTC') AS day
    FROM lakehouse_buckets
    WHERE NOT settled AND bucket_begin < date_trunc('day', clock_timestamp() - interval '1 hour', 'UTC')
) AS days
JOIN view_instances i ON i.vid = days.vid
JOIN unnest($3::text[], $4::bytea[], $5::integer[]) AS version (view_set, schema_hash, writer_version)
    ON i.view_set = version.view_set
    AND i.schema_hash = version.schema_hash
    AND i.writer_version = version.writer_version
CROSS JOIN LATERAL (
    SELECT
        count(*) > 1 AND bool_and(sealed AND NOT dirty) AND bool_and(frozen) = bool_or(frozen) AS mergeable
    FROM lakehouse_buckets b
    WHERE b.vid = days.vid AND b.bucket_begin >= days.day AND b.bucket_begin < days.day + interval '24 hours'
) AS buckets
CROSS JOIN LATERAL (
    SELECT coalesce(sum(p.file_size), 0) AS size_bytes
    FROM lakehouse_partitions p
    WHERE p.vid = days.vid AND p.bucket_begin >= days.day AND p.bucket_begin < days.day + interval '24 hours'
) AS files
WHERE buckets.mergeable
    AND files.size_bytes <= $1
    AND ($6::timestamptz IS NULL OR (days.day, i.vid) > ($6, $7::bigint))
ORDER BY days.day, i.vid
LIMIT $2;
-- name: has_rows_of_its_own
-- Frozen buckets that no other instance has, so that their rows would go with the instance i.
EXISTS (
    SELECT
    FROM lakehouse_buckets b
    WHERE b.vid = i.vid AND b.frozen
        AND NOT EXISTS (
            SELECT
            FROM view_instances o
            JOIN lakehouse_buckets k
                ON k.vid = o.vid
                AND k.bucket_begin > b.bucket_begin - interval '24 hours' AND k.bucket_begin <= b.bucket_begin
                AND k.bucket_end >= b.bucket_end
            WHERE o.view_set = i.view_set AND o.instance_id = i.instance_id AND o.schema_hash = i.schema_hash
                AND o.vid <> i.vid
        )
)

-- name: find_unused
-- Instances of versions of which no instance has been used for $1, and which are not those of the server that asks.
SELECT i.vid, i.view_set, i.instance_id, i.schema_hash, i.writer_version
FROM (
    SELECT view_set, schema_hash, writer_version
    FROM view_instances
    GROUP BY view_set, schema_hash, writer_version
    HAVING max(used) < clock_timestamp() - $1::interval
    EXCEPT
    SELECT *
    FROM unnest($3::text[], $4::bytea[], $5::integer[])
) AS version
JOIN view_instances i
    ON i.view_set = version.view_set
    AND i.schema_hash = version.schema_hash
    AND i.writer_version = version.writer_version
WHERE NOT {has_rows_of_its_own}
ORDER BY i.vid
LIMIT $2;

-- name: lock_unused
-- A server of that version may have come back meanwhile.
SELECT i.vid
FROM view_instances i
WHERE i.vid = $1 AND i.used < clock_timestamp() - $2::interval AND NOT {has_rows_of_its_own}
FOR UPDATE;

-- name: lock_buckets
-- Before their partitions, as whoever commits one of them does.
SELECT
FROM lakehouse_buckets
WHERE vid = $1
ORDER BY bucket_begin
FOR UPDATE;

-- name: retire_all
-- Their objects are released, so that queries which hold their names can finish.
DELETE FROM lakehouse_partitions WHERE vid = $1;

-- name: remove_instance
DELETE FROM view_instances WHERE vid = $1;

-- name: freeze_bucket
-- Only what is clean and will get no more blocks. Whoever is building it does not commit any more.
UPDATE lakehouse_buckets SET frozen = true, generation = generation + 1, updated = clock_timestamp()
WHERE (vid, bucket_begin) = ($1, $2) AND sealed AND NOT dirty AND NOT frozen AND src_digest IS NOT NULL
RETURNING true;
