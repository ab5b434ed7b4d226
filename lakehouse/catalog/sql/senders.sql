-- Who has sent blocks, and the latest of them: noted from time to time, so that whoever lists processes and streams reads the
-- notes and the blocks that came since, and not all that there are. What came since is told by transaction ids, as in looks.sql.

-- name: add_notes
INSERT INTO lakehouse_notes DEFAULT VALUES
ON CONFLICT (single) DO NOTHING;

-- name: unlisted
-- The ranges of ids that the notes do not know. Everything, before there are notes, and where the ids to come may be lower than
-- those that are noted: then somebody else has to see to it that they are not.
SELECT
    CASE
        WHEN t.written_by::xid = t.xmin
            AND n.looked_before <= lakehouse_shifted(pg_snapshot_xmax(pg_current_snapshot()), t.base)
        THEN n.looked_before
        ELSE '0'::xid8
    END AS first,
    '18446744073709551615'::xid8 AS last
FROM (SELECT true AS single) AS always
LEFT JOIN lakehouse_notes n USING (single)
LEFT JOIN lakehouse_transactions t USING (single)
UNION ALL
SELECT running, running
FROM lakehouse_notes n
CROSS JOIN LATERAL unnest(n.looked_except) AS running

-- name: sent
-- Of every stream that has blocks a row and more, the latest of its blocks among them.
SELECT stream_id, process_id, insert_time, end_ticks, end_time
FROM lakehouse_senders
UNION ALL
SELECT b.stream_id, b.process_id, b.insert_time, b.end_ticks, b.end_time
FROM ({unlisted}) AS u
CROSS JOIN LATERAL (SELECT * FROM blocks WHERE ingest_xid BETWEEN u.first AND u.last {apart}) AS b

-- name: claim
-- One at a time takes notes. No row: another is at it.
SELECT
    n.looked_before IS NULL
        OR coalesce(
            t.written_by::xid = t.xmin
            AND n.looked_before <= lakehouse_shifted(pg_snapshot_xmax(pg_current_snapshot()), t.base),
            false
        ) AS continuous
FROM lakehouse_notes n
LEFT JOIN lakehouse_transactions t USING (single)
FOR UPDATE OF n SKIP LOCKED;

-- name: take_notes
-- In one statement, so in one snapshot, by who has claimed it. Blocks that retention has in hand are not seen.
WITH seen AS (SELECT looked_before, looked_except FROM lakehouse_notes),
now_seen AS (
    SELECT
        lakehouse_shifted(pg_snapshot_xmax(now.snapshot), t.base) AS before,
        ARRAY(SELECT lakehouse_shifted(running, t.base) FROM pg_snapshot_xip(now.snapshot) AS running) AS except_running
    FROM lakehouse_transactions t
    CROSS JOIN (SELECT pg_current_snapshot() AS snapshot) AS now
),
unseen AS (
    SELECT coalesce(looked_before, '0'::xid8) AS first, '18446744073709551615'::xid8 AS last
    FROM seen
    UNION ALL
    SELECT running, running
    FROM seen
    CROSS JOIN LATERAL unnest(looked_except) AS running
),
noted AS (
    INSERT INTO lakehouse_senders AS s (stream_id, process_id, insert_time, end_ticks, end_time)
    SELECT b.stream_id, b.process_id, max(b.insert_time), max(b.end_ticks), max(b.end_time)
    FROM unseen u
    CROSS JOIN LATERAL (SELECT * FROM blocks WHERE ingest_xid BETWEEN u.first AND u.last OFFSET 0) AS b
    WHERE b.insert_time >= (SELECT lakehouse_kept_from())
    GROUP BY b.stream_id, b.process_id
    ON CONFLICT (stream_id, process_id) DO UPDATE SET
        insert_time = greatest(s.insert_time, excluded.insert_time),
        end_ticks = greatest(s.end_ticks, excluded.end_ticks),
        end_time = greatest(s.end_time, excluded.end_time)
)
UPDATE lakehouse_notes SET
    looked_before = now_seen.before,
    looked_except = now_seen.except_running
FROM now_seen;
