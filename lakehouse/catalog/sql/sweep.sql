-- Files of partitions in the store that nothing names: neither a partition, nor a write that may still become one.

-- name: note_orphans
-- Of the listed paths $2. They were listed before: what is being written was announced before its first byte, and its name goes
-- from the announcement to the object in one transaction.
INSERT INTO lakehouse_orphans (store, path)
SELECT $1, listed.path
FROM unnest($2::text[]) AS listed (path)
WHERE NOT EXISTS (SELECT FROM lake_objects o WHERE o.store = $1 AND o.path = listed.path)
    AND NOT EXISTS (
        SELECT FROM staged_writes w WHERE w.store = $1 AND w.path = listed.path AND w.state <> 'reaped'
    )
ON CONFLICT (store, path) DO NOTHING;

-- name: fetch_orphans
-- That were seen $2 ago.
SELECT path
FROM lakehouse_orphans n
WHERE n.store = $1 AND n.seen_at <= clock_timestamp() - $2::interval
    AND NOT EXISTS (SELECT FROM lake_objects o WHERE o.store = n.store AND o.path = n.path)
ORDER BY n.path
LIMIT $3;

-- name: forget_orphans
DELETE FROM lakehouse_orphans WHERE store = $1 AND path = ANY ($2::text[]);
