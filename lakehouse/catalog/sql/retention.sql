-- What is older than it is to be kept. By the clock of the database, whatever those of the servers say.

-- name: next_expired_hour
-- The oldest hour whose blocks are seen and older than $1, and how old all of it is.
SELECT hour.begin, clock_timestamp() - (hour.begin + interval '1 hour') AS age
FROM (
    SELECT date_trunc('hour', min(insert_time), 'UTC') AS begin
    FROM blocks
    WHERE insert_time >= (SELECT lakehouse_kept_from())
        AND insert_time < date_trunc('hour', clock_timestamp() - $1::interval, 'UTC')
) AS hour
WHERE hour.begin IS NOT NULL;

-- name: instances_of_hour
-- Instances of the versions $2, $3, $4 that somebody has asked for, and that blocks of the hour from $1 can belong to.
SELECT i.vid, i.view_set, i.instance_id, i.schema_hash, i.writer_version
FROM unnest($2::text[], $3::bytea[], $4::integer[]) AS version (view_set, schema_hash, writer_version)
JOIN view_instances i USING (view_set, schema_hash, writer_version)
WHERE i.instance_id IN (
    SELECT process_id::text FROM blocks WHERE insert_time >= $1 AND insert_time < $1 + interval '1 hour'
    UNION
    SELECT stream_id::text FROM blocks WHERE insert_time >= $1 AND insert_time < $1 + interval '1 hour'
)
ORDER BY i.vid;

-- name: lock_horizons
-- One at a time moves it; who reads it does not wait.
LOCK TABLE lakehouse_horizons IN SHARE ROW EXCLUSIVE MODE;

-- name: lock_expiring
-- The buckets that lose blocks when those before $1 go. In the way are those that are not made yet of the view sets $2, in the
-- version $3 or a newer one.
SELECT
    i.vid, i.view_set, i.instance_id, i.schema_hash, i.writer_version, b.bucket_begin,
    (b.dirty OR NOT b.sealed OR b.src_digest IS NULL) AND EXISTS (
        SELECT
        FROM unnest($2::text[], $3::integer[]) AS kept (view_set, writer_version)
        WHERE kept.view_set = i.view_set AND kept.writer_version <= i.writer_version
    ) AS is_in_the_way
FROM lakehouse_buckets b
JOIN view_instances i ON i.vid = b.vid
WHERE b.bucket_begin < $1 AND NOT b.frozen
ORDER BY b.vid, b.bucket_begin
FOR UPDATE OF b;

-- name: freeze_expiring
-- Whoever is building one does not commit any more.
UPDATE lakehouse_buckets SET frozen = true, generation = generation + 1, updated = clock_timestamp()
WHERE bucket_begin < $1 AND NOT frozen;

-- name: kept_from
SELECT lakehouse_kept_from();

-- name: lock_notes
-- Nobody notes a block that is not seen any more.
SELECT FROM lakehouse_notes FOR UPDATE;

-- name: note_again
-- Senders of whom the latest end was noted of a block that came in [$1, $2), and is not seen any more. Those whose blocks are
-- all older are not shown.
SELECT lakehouse_note_again(s.stream_id, s.process_id)
FROM (
    SELECT stream_id, process_id, max(end_ticks) AS end_ticks, max(end_time) AS end_time
    FROM blocks
    WHERE insert_time >= $1 AND insert_time < $2
    GROUP BY stream_id, process_id
) AS hidden
JOIN lakehouse_senders s USING (stream_id, process_id)
WHERE s.insert_time >= $2 AND (hidden.end_ticks >= s.end_ticks OR hidden.end_time >= s.end_time);

-- name: move_horizon
INSERT INTO lakehouse_horizons (kept_from)
SELECT $1::timestamptz
WHERE $1 > lakehouse_kept_from();

-- name: freeze_expired
-- Buckets that a look has brought which began before the horizon moved.
UPDATE lakehouse_buckets b SET frozen = true, generation = generation + 1, updated = clock_timestamp()
FROM (
    SELECT vid, bucket_begin
    FROM lakehouse_buckets
    WHERE bucket_begin < (SELECT lakehouse_kept_from()) AND NOT frozen
    ORDER BY vid, bucket_begin
    FOR UPDATE
) AS late
WHERE b.vid = late.vid AND b.bucket_begin = late.bucket_begin;

-- name: fetch_expired_blocks
-- That nobody has seen for $1.
SELECT block_id, stream_id, process_id
FROM blocks
WHERE insert_time < (SELECT max(kept_from) FROM lakehouse_horizons WHERE since <= clock_timestamp() - $1::interval)
ORDER BY insert_time
LIMIT $2;

-- name: forget_blocks
DELETE FROM blocks WHERE block_id = ANY ($1::uuid[]);

-- name: forget_quarantined
DELETE FROM quarantined_blocks WHERE block_id = ANY ($1::uuid[]);

-- name: forget_horizons
-- But for the last that nobody sees behind any more.
DELETE FROM lakehouse_horizons
WHERE kept_from < (SELECT max(kept_from) FROM lakehouse_horizons WHERE since <= clock_timestamp() - $1::interval);

-- name: forget_processes
-- Processes that registered nothing for $1, and have neither blocks nor partitions, with their streams. The streams of a
-- process that lives are kept: it registers each once, and may send for one that was quiet for long.
WITH gone AS (
    SELECT p.process_id
    FROM processes p
    WHERE p.insert_time < clock_timestamp() - $1::interval
        AND NOT EXISTS (SELECT FROM blocks b WHERE b.process_id = p.process_id)
        AND NOT EXISTS (
            SELECT
            FROM streams s
            WHERE s.process_id = p.process_id
                AND (
                    s.insert_time >= clock_timestamp() - $1::interval
                    OR EXISTS (SELECT FROM blocks b WHERE b.stream_id = s.stream_id)
                    OR EXISTS (
                        SELECT
                        FROM view_instances i
                        JOIN lakehouse_buckets k ON k.vid = i.vid
                        WHERE i.instance_id = s.stream_id::text
                    )
                )
        )
        AND NOT EXISTS (
            SELECT
            FROM view_instances i
            JOIN lakehouse_buckets k ON k.vid = i.vid
            WHERE i.instance_id = p.process_id::text
        )
    LIMIT $2
    FOR UPDATE OF p SKIP LOCKED
),
streams_gone AS (
    DELETE FROM streams s USING gone WHERE s.process_id = gone.process_id
)
DELETE FROM processes p USING gone WHERE p.process_id = gone.process_id
RETURNING p.process_id;

-- name: forget_streams
-- Those whose process never was registered, or is not any more.
DELETE FROM streams
WHERE stream_id IN (
    SELECT s.stream_id
    FROM streams s
    WHERE s.insert_time < clock_timestamp() - $1::interval
        AND NOT EXISTS (SELECT FROM processes p WHERE p.process_id = s.process_id)
        AND NOT EXISTS (SELECT FROM blocks b WHERE b.stream_id = s.stream_id)
    LIMIT $2
)
RETURNING stream_id;

-- name: forget_instances
-- Of programs that are not known any more.
DELETE FROM view_instances
WHERE vid IN (
    SELECT i.vid
    FROM view_instances i
    WHERE i.instance_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
        AND i.used < clock_timestamp() - $1::interval
        AND NOT EXISTS (SELECT FROM lakehouse_buckets b WHERE b.vid = i.vid)
        AND NOT EXISTS (SELECT FROM processes p WHERE p.process_id::text = i.instance_id)
        AND NOT EXISTS (SELECT FROM streams s WHERE s.stream_id::text = i.instance_id)
    LIMIT $2
    FOR UPDATE OF i SKIP LOCKED
)
RETURNING vid;

-- name: fetch_expired_buckets
-- Of a view set $1, those that are older than $2. Where the blocks are there, somebody may have asked for one that is older:
-- it stays for $3 after it was made.
SELECT b.vid, b.bucket_begin
FROM lakehouse_buckets b
JOIN view_instances i ON i.vid = b.vid
WHERE i.view_set = $1
    AND b.bucket_begin < date_trunc('hour', clock_timestamp() - $2::interval, 'UTC')
    AND b.bucket_end <= date_trunc('hour', clock_timestamp() - $2::interval, 'UTC')
    AND (
        b.bucket_end <= (SELECT lakehouse_kept_from())
        OR (b.frozen AND NOT EXISTS ( -- a longer bucket, of which nobody's block is seen any more
            SELECT FROM blocks WHERE insert_time >= (SELECT lakehouse_kept_from()) AND insert_time < b.bucket_end
        ))
        OR (
            NOT b.frozen
            AND b.updated < clock_timestamp() - $3::interval
            AND EXISTS (
                SELECT FROM lakehouse_partitions p WHERE p.vid = b.vid AND p.bucket_begin = b.bucket_begin
            )
        )
    )
ORDER BY b.bucket_begin, b.vid
LIMIT $4;

-- name: begin_expiring
-- For this transaction: buckets that go were seen, and are not looked for again.
SELECT set_config('lakeflight.merges', 'on', true);

-- name: lock_expired
SELECT
FROM lakehouse_buckets b
JOIN unnest($1::bigint[], $2::timestamptz[]) AS expired (vid, bucket_begin) USING (vid, bucket_begin)
ORDER BY b.vid, b.bucket_begin
FOR UPDATE OF b;

-- name: expire_partitions
DELETE FROM lakehouse_partitions p
USING unnest($1::bigint[], $2::timestamptz[]) AS expired (vid, bucket_begin)
WHERE p.vid = expired.vid AND p.bucket_begin = expired.bucket_begin;

-- name: expire_buckets
DELETE FROM lakehouse_buckets b
USING unnest($1::bigint[], $2::timestamptz[]) AS expired (vid, bucket_begin)
WHERE b.vid = expired.vid AND b.bucket_begin = expired.bucket_begin
    AND (
        b.bucket_end <= (SELECT lakehouse_kept_from())
        OR (b.frozen AND NOT EXISTS ( -- a longer bucket, of which nobody's block is seen any more
            SELECT FROM blocks WHERE insert_time >= (SELECT lakehouse_kept_from()) AND insert_time < b.bucket_end
        ))
    );

-- name: find_uncarried
-- Instances that have frozen buckets in another version than those that the server that asks has ($1, $2, $3), and not in these.
SELECT DISTINCT i.view_set, i.instance_id
FROM unnest($1::text[], $2::bytea[], $3::integer[]) AS version (view_set, schema_hash, writer_version)
JOIN view_instances i
    ON i.view_set = version.view_set
    AND (i.schema_hash, i.writer_version) IS DISTINCT FROM (version.schema_hash, version.writer_version)
JOIN lakehouse_buckets b ON b.vid = i.vid AND b.frozen
LEFT JOIN view_instances ours
    ON ours.view_set = version.view_set
    AND ours.instance_id = i.instance_id
    AND ours.schema_hash = version.schema_hash
    AND ours.writer_version = version.writer_version
WHERE NOT EXISTS (
    SELECT
    FROM lakehouse_buckets o
    WHERE o.vid = ours.vid AND o.bucket_begin < b.bucket_end AND o.bucket_end > b.bucket_begin
)
LIMIT $4;
