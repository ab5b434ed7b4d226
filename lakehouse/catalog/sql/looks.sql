-- What exists of each view instance, what of it is stale, and how a bucket is replaced.
--
-- Freshness rests on transaction ids, never on clocks. Every row of processes, streams and blocks keeps the id of the
-- transaction that wrote it. A look at an instance records its snapshot: the id that was next (``looked_before``), and
-- those below it that were still running (``looked_except``). What the next look must consider is then exact: the ids that
-- the snapshot could not see. That is what is new, and no more, however long some transaction runs. A block counts once
-- its stream and its process exist, so their ids are compared too: a late registration brings its earlier blocks with it.
--
-- Ids are the cluster's plus the base of ``lakehouse_transactions``, so that they go on in a restored database.

-- name: find_instance
SELECT vid
FROM view_instances
WHERE (view_set, instance_id, schema_hash, writer_version) = ($1, $2, $3, $4);

-- name: add_instance
-- Nothing waits for the disk: whatever names the instance commits later, so a crash that takes this takes that as well.
WITH derived AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO view_instances (view_set, instance_id, schema_hash, writer_version)
SELECT $1::text, $2::text, $3::bytea, $4::integer
FROM derived
ON CONFLICT (view_set, instance_id, schema_hash, writer_version) DO UPDATE SET view_set = excluded.view_set
RETURNING vid;

-- name: carry_frozen
-- What other versions of the instance $1 have in frozen buckets, and it has not: their blocks are gone, so it cannot be made
-- again. The rows are as the other version made them. Files that have other columns are not read, and their blocks count as
-- missing. Files are shared: each goes with the last partition that names it.
WITH ours AS (SELECT * FROM view_instances WHERE vid = $1),
others AS (
    SELECT DISTINCT ON (b.bucket_begin) b.*, i.schema_hash = ours.schema_hash AS is_readable
    FROM ours
    JOIN view_instances i
        ON i.view_set = ours.view_set AND i.instance_id = ours.instance_id AND i.vid <> ours.vid
    JOIN lakehouse_buckets b ON b.vid = i.vid AND b.frozen
    WHERE NOT EXISTS (
        SELECT
        FROM lakehouse_buckets o
        WHERE o.vid = ours.vid AND o.bucket_begin < b.bucket_end AND o.bucket_end > b.bucket_begin
    )
    ORDER BY b.bucket_begin, i.schema_hash = ours.schema_hash DESC, i.writer_version DESC
),
carried AS (
    INSERT INTO lakehouse_buckets (
        vid, bucket_begin, bucket_end, dirty, sealed, whole, frozen, settled, src_blocks, src_objects, src_digest,
        src_max_insert, min_claimed, max_claimed, timing_end_ticks, timing_end_time, missing_blocks, repaired_events
    )
    SELECT
        $1, bucket_begin, bucket_end, false, true, whole, true, settled, src_blocks, src_objects, src_digest, src_max_insert,
        min_claimed, max_claimed, timing_end_ticks, timing_end_time,
        CASE WHEN is_readable THEN missing_blocks ELSE src_blocks END, repaired_events
    FROM others
    ON CONFLICT DO NOTHING
    RETURNING bucket_begin
)
INSERT INTO lakehouse_partitions (
    vid, view_set_name, view_instance_id, bucket_begin, ordinal, generation, begin_insert_time, end_insert_time,
    min_event_time, max_event_time, min_event_ns, max_event_ns, updated, file_path, file_size, file_schema_hash,
    source_data_hash, num_rows, partition_format_version, sort_order, max_sort_key_time, object_id, missing_blocks,
    writer_version, block_ids, tail_digest
)
SELECT
    $1, p.view_set_name, p.view_instance_id, p.bucket_begin, p.ordinal, 0, p.begin_insert_time, p.end_insert_time,
    p.min_event_time, p.max_event_time, p.min_event_ns, p.max_event_ns, p.updated, p.file_path, p.file_size,
    p.file_schema_hash, p.source_data_hash, p.num_rows, p.partition_format_version, p.sort_order, p.max_sort_key_time,
    p.object_id, p.missing_blocks, p.writer_version, p.block_ids, p.tail_digest
FROM others
JOIN carried USING (bucket_begin)
JOIN lakehouse_partitions p ON p.vid = others.vid AND p.bucket_begin = others.bucket_begin
WHERE others.is_readable;

-- name: find_process
SELECT process_id FROM processes WHERE process_id = $1;

-- name: find_stream
SELECT process_id FROM streams WHERE stream_id = $1;

-- name: seen
-- The last look at an instance; what asks by an instance's number begins with it. All of its key is compared, because numbers
-- are given again when the table is emptied or set back. $2 schema hash, $3 writer version, $4 view set, $5 instance.
SELECT vid, looked_before, looked_except, used
FROM view_instances
WHERE vid = $1 AND (schema_hash, writer_version, view_set, instance_id) = ($2, $3, $4, $5);

-- name: unseen
-- The ranges of ids that the last look could not see. Whoever joins with them keeps the planner from another order by
-- OFFSET 0: it cannot know that they hold next to nothing, and would rather read all blocks. What rows refer to is looked up
-- for each of them ({each}), because it is told that they are a share of all; but for a first look, which reads all that there
-- is. What came late is found by its own index and nothing else, and judged then: two indexes at once would read all
-- blocks of whom an instance is about, once for each registration of anybody.
SELECT coalesce(looked_before, '0'::xid8) AS first, '18446744073709551615'::xid8 AS last, looked_before
FROM seen
UNION ALL
SELECT running, running, looked_before
FROM seen
CROSS JOIN LATERAL unnest(looked_except) AS running;

-- name: fresh_of_stream
-- $6 the stream; $7 is not used. The second and third branch are empty unless a registration came late.
SELECT b.*
FROM unseen u
CROSS JOIN LATERAL (
    SELECT *
    FROM blocks
    WHERE stream_id = $6::uuid AND ingest_xid BETWEEN u.first AND u.last
    OFFSET 0
) AS b
WHERE $7::text IS NULL
UNION ALL
SELECT b.*
FROM unseen u
CROSS JOIN LATERAL (
    SELECT stream_id
    FROM streams
    WHERE stream_id = $6::uuid AND ingest_xid BETWEEN u.first AND u.last
    OFFSET 0
) AS late
CROSS JOIN LATERAL (
    SELECT *
    FROM blocks
    WHERE stream_id = late.stream_id AND ingest_xid < u.looked_before
    OFFSET 0
) AS b
WHERE u.looked_before IS NOT NULL
UNION ALL
SELECT b.*
FROM unseen u
CROSS JOIN LATERAL (
    SELECT process_id
    FROM processes
    WHERE ingest_xid BETWEEN u.first AND u.last
    OFFSET 0
) AS late
CROSS JOIN LATERAL (
    SELECT *
    FROM blocks
    WHERE process_id = late.process_id AND ingest_xid < u.looked_before
    OFFSET 0
) AS b
WHERE u.looked_before IS NOT NULL AND b.stream_id = $6::uuid;

-- name: fresh_of_process
-- $6 the process, $7 the tag of its streams.
SELECT b.*
FROM unseen u
CROSS JOIN LATERAL (
    SELECT *
    FROM blocks
    WHERE process_id = $6::uuid AND ingest_xid BETWEEN u.first AND u.last
    OFFSET 0
) AS b
CROSS JOIN LATERAL (SELECT FROM streams WHERE stream_id = b.stream_id AND tags @> ARRAY[$7::text] {each}) AS s
UNION ALL
SELECT b.*
FROM unseen u
CROSS JOIN LATERAL (
    SELECT stream_id
    FROM streams
    WHERE ingest_xid BETWEEN u.first AND u.last AND tags @> ARRAY[$7::text]
    OFFSET 0
) AS late
CROSS JOIN LATERAL (
    SELECT *
    FROM blocks
    WHERE stream_id = late.stream_id AND ingest_xid < u.looked_before
    OFFSET 0
) AS b
WHERE u.looked_before IS NOT NULL AND b.process_id = $6::uuid
UNION ALL
SELECT b.*
FROM unseen u
CROSS JOIN LATERAL (
    SELECT process_id
    FROM processes
    WHERE process_id = $6::uuid AND ingest_xid BETWEEN u.first AND u.last
    OFFSET 0
) AS late
CROSS JOIN LATERAL (
    SELECT *
    FROM blocks
    WHERE process_id = late.process_id AND ingest_xid < u.looked_before
    OFFSET 0
) AS b
CROSS JOIN LATERAL (SELECT FROM streams WHERE stream_id = b.stream_id AND tags @> ARRAY[$7::text] {each}) AS s
WHERE u.looked_before IS NOT NULL;

-- name: fresh_of_global
-- $6 is not used, $7 the tag of the streams.
SELECT b.*
FROM unseen u
CROSS JOIN LATERAL (
    SELECT *
    FROM blocks
    WHERE ingest_xid BETWEEN u.first AND u.last
    OFFSET 0
) AS b
CROSS JOIN LATERAL (SELECT FROM streams WHERE stream_id = b.stream_id AND tags @> ARRAY[$7::text] {each}) AS s
WHERE $6::uuid IS NULL
UNION ALL
SELECT b.*
FROM unseen u
CROSS JOIN LATERAL (
    SELECT stream_id
    FROM streams
    WHERE ingest_xid BETWEEN u.first AND u.last AND tags @> ARRAY[$7::text]
    OFFSET 0
) AS late
CROSS JOIN LATERAL (
    SELECT *
    FROM blocks
    WHERE stream_id = late.stream_id AND ingest_xid < u.looked_before
    OFFSET 0
) AS b
WHERE u.looked_before IS NOT NULL
UNION ALL
SELECT b.*
FROM unseen u
CROSS JOIN LATERAL (
    SELECT process_id
    FROM processes
    WHERE ingest_xid BETWEEN u.first AND u.last
    OFFSET 0
) AS late
CROSS JOIN LATERAL (
    SELECT *
    FROM blocks
    WHERE process_id = late.process_id AND ingest_xid < u.looked_before
    OFFSET 0
) AS b
CROSS JOIN LATERAL (SELECT FROM streams WHERE stream_id = b.stream_id AND tags @> ARRAY[$7::text] {each}) AS s
WHERE u.looked_before IS NOT NULL;

-- name: reread_of_stream
-- What a look reads although it is nothing new to its instance.
SELECT FROM unseen u CROSS JOIN LATERAL (SELECT FROM processes WHERE ingest_xid BETWEEN u.first AND u.last OFFSET 0) AS r;

-- name: reread_of_process
SELECT FROM unseen u CROSS JOIN LATERAL (SELECT FROM streams WHERE ingest_xid BETWEEN u.first AND u.last OFFSET 0) AS r
UNION ALL
SELECT
FROM unseen u
CROSS JOIN LATERAL (
    SELECT FROM blocks WHERE process_id = $6::uuid AND ingest_xid BETWEEN u.first AND u.last OFFSET 0
) AS r;

-- name: reread_of_global
SELECT FROM unseen u CROSS JOIN LATERAL (SELECT FROM processes WHERE ingest_xid BETWEEN u.first AND u.last OFFSET 0) AS r
UNION ALL
SELECT FROM unseen u CROSS JOIN LATERAL (SELECT FROM streams WHERE ingest_xid BETWEEN u.first AND u.last OFFSET 0) AS r
UNION ALL
SELECT FROM unseen u CROSS JOIN LATERAL (SELECT FROM blocks WHERE ingest_xid BETWEEN u.first AND u.last OFFSET 0) AS r;

-- name: has_fresh
-- The common look: nothing is new, nothing is written. The names in braces stand for texts of this file. No row: the
-- instance is gone. ``first``: all blocks are new, which is not asked here, because it can take long. ``continuous``: the
-- ids of the last look are below those to come, in this cluster. ``due``: it is time to record a look although nothing is
-- new, to show that the instance is used, or because $8 ids or $9 rows have come since, which the next look would read again.
WITH seen AS ({seen}),
unseen AS ({unseen}),
fresh AS ({fresh}),
next AS (
    SELECT
        lakehouse_shifted(pg_snapshot_xmax(pg_current_snapshot()), base) AS id,
        written_by::xid = xmin AS is_of_this_cluster
    FROM lakehouse_transactions
)
SELECT
    seen.looked_before IS NULL AS first,
    CASE WHEN seen.looked_before IS NOT NULL THEN EXISTS (
        SELECT
        FROM fresh
        CROSS JOIN LATERAL (SELECT FROM streams WHERE stream_id = fresh.stream_id OFFSET 0) AS s
        CROSS JOIN LATERAL (SELECT FROM processes WHERE process_id = fresh.process_id OFFSET 0) AS p
        WHERE fresh.insert_time >= (SELECT lakehouse_kept_from())
    ) END AS fresh,
    coalesce(next.is_of_this_cluster AND (seen.looked_before IS NULL OR seen.looked_before <= next.id), false)
        AS continuous,
    seen.used < clock_timestamp() - interval '1 hour'
        OR lakehouse_shifted(seen.looked_before, $8::bigint) < next.id
        OR (seen.looked_before IS NOT NULL AND EXISTS (SELECT FROM ({reread}) AS r OFFSET $9::bigint)) AS due
FROM seen
LEFT JOIN next ON true;

-- name: ids_continue
SELECT lakehouse_continues();

-- name: lock_transactions
-- No id is given under the old base once the new one is known.
LOCK TABLE lakehouse_transactions IN ACCESS EXCLUSIVE MODE;

-- name: rebase
SELECT lakehouse_rebase();

-- name: claim_first_look
-- One server at a time reads all blocks. No row: another one is at it, or is done. Who waited for the lock instead would
-- keep a connection from everybody else for minutes.
SELECT vid
FROM view_instances
WHERE vid = $1 AND looked_before IS NULL
FOR UPDATE SKIP LOCKED;

-- name: mark_fresh
-- Marks the buckets of new blocks as dirty and records the look, in one statement, so in one snapshot.
-- Blocks that retention has in hand are not seen.
-- A bucket remembers the union of its blocks' claimed times: what a block says of itself, what its ticks say, and when
-- it came. The bounds of to_timestamp() are kept, because ticks and frequencies are whatever a client sent.
-- Nothing waits for the disk: a look that a crash takes is looked again, and what rests on it commits later.
WITH seen AS ({seen} FOR UPDATE),
now_seen AS (
    SELECT
        lakehouse_shifted(pg_snapshot_xmax(now.snapshot), t.base) AS before,
        ARRAY(
            SELECT lakehouse_shifted(running, t.base) FROM pg_snapshot_xip(now.snapshot) AS running
        ) AS except_running
    FROM lakehouse_transactions t
    CROSS JOIN (SELECT pg_current_snapshot() AS snapshot) AS now
    WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL
),
unseen AS ({unseen}),
fresh AS ({fresh}),
claimed AS (
    SELECT
        date_trunc('hour', fresh.insert_time, 'UTC') AS bucket_begin,
        least(fresh.begin_time, fresh.end_time, fresh.insert_time, ticks.begin_time, ticks.end_time) AS begin_time,
        greatest(fresh.begin_time, fresh.end_time, fresh.insert_time, ticks.begin_time, ticks.end_time) AS end_time
    FROM fresh
    CROSS JOIN LATERAL (SELECT FROM streams WHERE stream_id = fresh.stream_id {each}) AS s
    CROSS JOIN LATERAL (
        SELECT start_time, tsc_frequency FROM processes WHERE process_id = fresh.process_id {each}
    ) AS p
    CROSS JOIN LATERAL (
        SELECT
            extract(EPOCH FROM p.start_time)::double precision AS start,
            nullif(greatest(p.tsc_frequency, 0), 0)::double precision AS frequency
    ) AS clock
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN clock.frequency IS NOT NULL THEN to_timestamp(
                least(greatest(clock.start + fresh.begin_ticks / clock.frequency, -2e11), 9e12)
            ) END AS begin_time,
            CASE WHEN clock.frequency IS NOT NULL THEN to_timestamp(
                least(greatest(clock.start + fresh.end_ticks / clock.frequency, -2e11), 9e12)
            ) END AS end_time
    ) AS ticks
    WHERE fresh.insert_time >= (SELECT lakehouse_kept_from())
),
-- An hour is a bucket of its own, unless it is merged into a longer one: of a day at most, which the index then finds at once.
hours AS (
    SELECT bucket_begin, min(begin_time) AS begin_time, max(end_time) AS end_time
    FROM claimed
    GROUP BY bucket_begin
),
stretches AS (
    SELECT
        coalesce(longer.bucket_begin, hours.bucket_begin) AS bucket_begin,
        coalesce(longer.bucket_end, hours.bucket_begin + interval '1 hour') AS bucket_end,
        hours.begin_time,
        hours.end_time
    FROM hours
    LEFT JOIN LATERAL (
        SELECT b.bucket_begin, b.bucket_end
        FROM lakehouse_buckets b
        WHERE b.vid = $1
            AND b.bucket_begin > hours.bucket_begin - interval '24 hours'
            AND b.bucket_begin <= hours.bucket_begin
            AND b.bucket_end > hours.bucket_begin
    ) AS longer ON true
),
marked AS (
    INSERT INTO lakehouse_buckets AS b (vid, bucket_begin, bucket_end, dirty, marks, min_claimed, max_claimed)
    SELECT $1, bucket_begin, bucket_end, true, 1, min(begin_time), max(end_time)
    FROM stretches
    GROUP BY bucket_begin, bucket_end
    ORDER BY bucket_begin  -- the order in which whoever merges them locks them
    ON CONFLICT (vid, bucket_begin) DO UPDATE SET
        dirty = true,
        marks = b.marks + 1,
        min_claimed = least(b.min_claimed, excluded.min_claimed),
        max_claimed = greatest(b.max_claimed, excluded.max_claimed)
    RETURNING 1
)
UPDATE view_instances AS i SET
    looked_before = now_seen.before,
    looked_except = now_seen.except_running,
    used = clock_timestamp()
FROM seen, now_seen
WHERE i.vid = seen.vid
    -- Another server may have looked with a later snapshot while this one waited for the row: that stands.
    AND (seen.looked_before IS NULL OR seen.looked_before <= now_seen.before);

-- name: fetch_known_missing
-- What was left out of the buckets that a reader of these instances and ranges ($5, $6: nanoseconds, null is open) needs.
-- Null: no block of the lake was ever set aside.
SELECT CASE WHEN EXISTS (SELECT FROM quarantined_blocks) THEN coalesce(sum(b.missing_blocks), 0)::bigint END
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::int[], $5::bigint[], $6::bigint[])
    AS u (view_set, instance_id, schema_hash, writer_version, begin_ns, end_ns)
JOIN view_instances USING (view_set, instance_id, schema_hash, writer_version)
JOIN lakehouse_buckets b USING (vid)
WHERE b.missing_blocks > 0
    AND (u.begin_ns IS NULL OR b.max_claimed >= to_timestamp(least(greatest(u.begin_ns / 1e9 - $7, -2e11), 9e12)))
    AND (u.end_ns IS NULL OR b.min_claimed <= to_timestamp(least(greatest(u.end_ns / 1e9 + $7, -2e11), 9e12)));

-- name: fetch_buckets
-- Buckets that a reader of [$6, $7] (nanoseconds, null is open) may need, with their partitions. A bucket is judged by what
-- its blocks claim, with a margin ($8, seconds); a partition by the rows that are in it. Both are found by indexes over
-- ranges (migrations/0006), so that history outside of the range costs nothing. A row for each bucket, and one for each of its
-- partitions after it: joined, they would be compared each with each, because the planner takes them for few. Most buckets
-- claim the range, are fresh and whole, and have partitions in it, which say as much: those have no row of their own. One row
-- of nulls: there are none. No row: what was looked at is gone.
WITH seen AS ({seen}),
held AS MATERIALIZED (
    SELECT bucket_begin, ordinal, file_path, file_size, num_rows, min_event_ns, max_event_ns, tail_digest
    FROM lakehouse_partitions
    WHERE num_rows > 0
        AND int8range(vid, vid, '[]') && int8range($1, $1, '[]')
        AND int8range(min_event_ns, max_event_ns, '[]')
            && CASE WHEN $6::bigint > $7::bigint THEN 'empty' ELSE int8range($6::bigint, $7::bigint, '[]') END
),
claimed AS MATERIALIZED (
    SELECT bucket_begin, dirty, missing_blocks
    FROM lakehouse_buckets
    WHERE int8range(vid, vid, '[]') && int8range($1, $1, '[]')
        AND tstzrange(min_claimed, max_claimed, '[]') && CASE WHEN $6::bigint > $7::bigint THEN 'empty' ELSE tstzrange(
            CASE WHEN $6 IS NOT NULL THEN to_timestamp(least(greatest($6 / 1e9 - $8, -2e11), 9e12)) END,
            CASE WHEN $7 IS NOT NULL THEN to_timestamp(least(greatest($7 / 1e9 + $8, -2e11), 9e12)) END,
            '[]'
        ) END
),
found AS (
    SELECT bucket_begin, dirty, missing_blocks, true AS claimed_in_range
    FROM claimed
    WHERE dirty OR missing_blocks > 0
    UNION ALL
    SELECT bucket_begin, false, 0, true
    FROM (
        SELECT bucket_begin FROM claimed WHERE NOT dirty AND missing_blocks = 0
        EXCEPT
        SELECT bucket_begin FROM held
    ) AS without_rows
    UNION ALL
    SELECT other.bucket_begin, b.dirty, b.missing_blocks, false
    FROM (SELECT bucket_begin FROM held EXCEPT SELECT bucket_begin FROM claimed) AS other
    CROSS JOIN LATERAL (
        SELECT dirty, missing_blocks
        FROM lakehouse_buckets
        WHERE (vid, bucket_begin) = ($1, other.bucket_begin)
        OFFSET 0  -- one after the other: the planner would read all buckets of the instance for a join
    ) AS b
)
SELECT part.*
FROM seen
LEFT JOIN (
    SELECT
        bucket_begin, dirty, missing_blocks, claimed_in_range, NULL::integer AS ordinal, NULL::text AS file_path,
        NULL::bigint AS file_size, NULL::bigint AS num_rows, NULL::bigint AS min_event_ns, NULL::bigint AS max_event_ns,
        NULL::bytea AS tail_digest
    FROM found
    UNION ALL
    SELECT
        bucket_begin, NULL, NULL, NULL, ordinal, file_path, file_size, num_rows, min_event_ns, max_event_ns, tail_digest
    FROM held
) AS part ON true
WHERE seen.looked_before IS NOT NULL
ORDER BY part.bucket_begin, part.ordinal NULLS FIRST;

-- name: fetch_estimated
-- Buckets whose times rest on an estimate, and which have rows in [$2, $3] or may have with today's: $5 ticks at $6, the
-- process having started at $4. All times in nanoseconds. It says rather yes than no: frequencies are rounded to whole
-- ones, so the farther a row is from the start the less is known of it; $7 is the least that it may be off. A bucket
-- without rows or without a frequency is there in any case.
SELECT
    b.bucket_begin,
    b.dirty,
    b.timing_end_ticks,
    (extract(EPOCH FROM b.timing_end_time) * 1000000)::bigint AS timing_end_us,
    stored.min_ns,
    stored.max_ns
FROM lakehouse_buckets b
JOIN (
    SELECT bucket_begin, min(min_event_ns) AS min_ns, max(max_event_ns) AS max_ns
    FROM lakehouse_partitions
    WHERE vid = $1
    GROUP BY bucket_begin
) AS stored ON stored.bucket_begin = b.bucket_begin
CROSS JOIN LATERAL (
    SELECT
        1e9 * $5::bigint / nullif($6::bigint - $4::bigint::numeric, 0)::float8 AS hz_now,
        1e9 * b.timing_end_ticks / nullif(extract(EPOCH FROM b.timing_end_time) * 1e9 - $4, 0)::float8 AS hz_then,
        stored.min_ns::float8 - $4 AS begin_ns,
        stored.max_ns::float8 - $4 AS end_ns
    OFFSET 0  -- made once, not once for each use
) AS made
LEFT JOIN LATERAL (
    SELECT
        begin_ns * hz_then / hz_now AS begin_ns,
        end_ns * hz_then / hz_now AS end_ns,
        $7::float8 + greatest(abs(begin_ns), abs(end_ns)) * hz_then / hz_now * (2 / hz_then + 2 / hz_now + 1e-9) AS off_ns
    WHERE hz_then >= 2 AND hz_now >= 2
    OFFSET 0
) AS moved ON true
WHERE b.vid = $1
    AND NOT b.frozen
    AND b.timing_end_ticks IS NOT NULL
    AND (
        moved.off_ns IS NULL
        OR (stored.max_ns >= coalesce($2, stored.max_ns) AND stored.min_ns <= coalesce($3, stored.min_ns))
        OR (
            moved.end_ns + moved.off_ns >= coalesce($2::float8 - $4, '-infinity')
            AND moved.begin_ns - moved.off_ns <= coalesce($3::float8 - $4, 'infinity')
        )
    )
ORDER BY b.bucket_begin;

-- name: fetch_all_partitions
-- For tests only: every partition, whatever the range.
SELECT p.file_path, p.file_size, p.num_rows, p.min_event_ns, p.max_event_ns, p.tail_digest
FROM lakehouse_partitions p
WHERE p.vid = $1 AND p.num_rows > 0
ORDER BY p.bucket_begin, p.ordinal;

-- name: find_timing
-- The clock estimate of a process whose frequency is unknown, and only of such a process: of what is noted of its blocks,
-- and of those that came since.
SELECT max(b.end_ticks) AS end_ticks, (extract(EPOCH FROM max(b.end_time)) * 1000000)::bigint AS end_us
FROM (
    SELECT end_ticks, end_time
    FROM lakehouse_senders
    WHERE process_id = $1
    UNION ALL
    SELECT since.end_ticks, since.end_time
    FROM ({unlisted}) AS u
    CROSS JOIN LATERAL (
        SELECT end_ticks, end_time
        FROM blocks
        WHERE process_id = $1 AND ingest_xid BETWEEN u.first AND u.last
        OFFSET 0
    ) AS since
) AS b;

-- name: find_clock
-- Of the process of a stream or of an id itself: whether its tick frequency is known, and its start.
SELECT p.process_id, p.tsc_frequency > 0 AS is_known, (extract(EPOCH FROM p.start_time) * 1000000)::bigint AS start_us
FROM processes p
WHERE p.process_id = coalesce((SELECT s.process_id FROM streams s WHERE s.stream_id = $1), $1);

-- name: mark_bucket
UPDATE lakehouse_buckets SET dirty = true, marks = marks + 1
WHERE (vid, bucket_begin) = ($1, $2);
