-- Objects of partitions and the journal of their writing.

-- name: reserve
-- Write intents, committed before the first byte: what a crash leaves behind can be found by them.
INSERT INTO staged_writes (
    staged_id, session_id, owner, schema_name, table_name, field, codec, store, path, is_prefix, state, lease_expires_at
)
SELECT staged_id, $1, $2, 'lake', 'partitions', 'data', 'parquet', $3, path, false, 'open',
    clock_timestamp() + $6::interval
FROM unnest($4::uuid[], $5::text[]) AS intent (staged_id, path);

-- name: renew_intents
-- Not those that a reaper has, and none is waited for that is just being committed: the others would wait with it.
UPDATE staged_writes SET lease_expires_at = clock_timestamp() + $2::interval
WHERE staged_id IN (
    SELECT staged_id
    FROM staged_writes
    WHERE staged_id = ANY ($1::uuid[]) AND state = 'open'
    FOR UPDATE SKIP LOCKED
);

-- name: drop_intents
DELETE FROM staged_writes WHERE staged_id = ANY ($1::uuid[]) AND state = 'open';

-- name: find_intents
-- After a commit whose answer was lost: waits for a server process that may still be at it.
SELECT staged_id
FROM staged_writes
WHERE staged_id = ANY ($1::uuid[])
FOR UPDATE;

-- name: fetch_digests
-- Of objects of partitions; null where it was not kept when they were written.
SELECT path, sha256
FROM lake_objects
WHERE store = $1 AND path = ANY ($2::text[]);

-- name: fetch_without
-- Of the files $1, those that have no row with one of the values of each column, as their filters say. A value is a column
-- ($2) and where its bits lie ($3, $4), as lakehouse.filters has it. A file without a filter may have any.
SELECT f.path
FROM lake_filters f
WHERE f.store = $5 AND f.path = ANY ($1::text[])
    AND EXISTS (
        SELECT
        FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS value (name, first, step)
        WHERE value.name = ANY (f.columns)
        GROUP BY value.name
        HAVING NOT bool_or(
            get_bit(f.bits, value.first % (8 * octet_length(f.bits))) = 1
            AND get_bit(f.bits, (value.first + value.step) % (8 * octet_length(f.bits))) = 1
            AND get_bit(f.bits, (value.first + 2 * value.step) % (8 * octet_length(f.bits))) = 1
            AND get_bit(f.bits, (value.first + 3 * value.step) % (8 * octet_length(f.bits))) = 1
        )
    );

-- name: claim_expired_intents
UPDATE staged_writes SET state = 'reaping'
WHERE staged_id IN (
    SELECT staged_id
    FROM staged_writes
    WHERE state IN ('open', 'reaping') AND lease_expires_at < clock_timestamp() AND store = $1
    ORDER BY lease_expires_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
RETURNING staged_id, path;

-- name: finish_reaped
UPDATE staged_writes SET state = 'reaped' WHERE staged_id = ANY ($1::uuid[]);

-- name: purge_reaped
DELETE FROM staged_writes WHERE state = 'reaped' AND lease_expires_at < clock_timestamp() - interval '7 days';

-- name: claim_unreferenced
-- Objects of partitions that no row names, released longer ago than any reader can hold them ($3).
SELECT o.object_id, o.path
FROM lake_objects o
WHERE o.store = $1 AND o.schema_name = 'lake'
    AND (o.state = 'deleting' OR o.touched_at < clock_timestamp() - $3::interval)
    AND NOT EXISTS (SELECT FROM lakehouse_partitions p WHERE p.object_id = o.object_id)
    AND NOT EXISTS (
        SELECT FROM lake_releases r
        WHERE r.object_id = o.object_id AND r.released_at >= clock_timestamp() - $3::interval
    )
ORDER BY o.object_id
LIMIT $2
FOR UPDATE OF o SKIP LOCKED;

-- name: condemn
-- A second statement after the lock: a reference that was committed meanwhile is seen.
UPDATE lake_objects SET state = 'deleting'
WHERE object_id = ANY ($1::bigint[])
    AND NOT EXISTS (SELECT FROM lakehouse_partitions p WHERE p.object_id = lake_objects.object_id)
RETURNING object_id, path;

-- name: forget_objects
DELETE FROM lake_objects WHERE object_id = ANY ($1::bigint[]) AND state = 'deleting';
