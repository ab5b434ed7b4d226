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
INSERT INTO view_instances (view_set, instance_id, schema_hash, writer_version)
VALUES ($1, $2, $3, $4)
ON CONFLICT (view_set, instance_id, schema_hash, writer_version) DO UPDATE SET view_set = excluded.view_set
RETURNING vid;

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
-- OFFSET 0: it cannot know that they hold next to nothing, and would rather read all blocks.
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
    WHERE process_id = late.process_id AND stream_id = $6::uuid AND ingest_xid < u.looked_before
    OFFSET 0
) AS b
WHERE u.looked_before IS NOT NULL;

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
JOIN streams s ON s.stream_id = b.stream_id AND s.tags @> ARRAY[$7::text]
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
    WHERE stream_id = late.stream_id AND process_id = $6::uuid AND ingest_xid < u.looked_before
    OFFSET 0
) AS b
WHERE u.looked_before IS NOT NULL
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
JOIN streams s ON s.stream_id = b.stream_id AND s.tags @> ARRAY[$7::text]
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
JOIN streams s ON s.stream_id = b.stream_id AND s.tags @> ARRAY[$7::text]
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
JOIN streams s ON s.stream_id = b.stream_id AND s.tags @> ARRAY[$7::text]
WHERE u.looked_before IS NOT NULL;

-- name: has_fresh
-- The common look: nothing is new, nothing is written. The names in braces stand for texts of this file. No row: the
-- instance is gone. ``first``: all blocks are new, which is not asked here, because it can take long. ``continuous``: the
-- ids of the last look are below those to come, in this cluster. ``due``: it is time to record a look although nothing is
-- new, to show that the instance is used, or because $8 ids have come since, which the next look would read again.
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
        JOIN streams s ON s.stream_id = fresh.stream_id
        JOIN processes p ON p.process_id = fresh.process_id
    ) END AS fresh,
    coalesce(next.is_of_this_cluster AND (seen.looked_before IS NULL OR seen.looked_before <= next.id), false)
        AS continuous,
    seen.used < clock_timestamp() - interval '1 hour'
        OR lakehouse_shifted(seen.looked_before, $8::bigint) < next.id AS due
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
-- A bucket remembers the union of its blocks' claimed times: what a block says of itself, what its ticks say, and when
-- it came. The bounds of to_timestamp() are kept, because ticks and frequencies are whatever a client sent.
WITH seen AS ({seen} FOR UPDATE),
now_seen AS (
    SELECT
        lakehouse_shifted(pg_snapshot_xmax(now.snapshot), t.base) AS before,
        ARRAY(
            SELECT lakehouse_shifted(running, t.base) FROM pg_snapshot_xip(now.snapshot) AS running
        ) AS except_running
    FROM lakehouse_transactions t
    CROSS JOIN (SELECT pg_current_snapshot() AS snapshot) AS now
),
unseen AS ({unseen}),
fresh AS ({fresh}),
claimed AS (
    SELECT
        date_trunc('hour', fresh.insert_time, 'UTC') AS bucket_begin,
        least(fresh.begin_time, fresh.end_time, fresh.insert_time, ticks.begin_time, ticks.end_time) AS begin_time,
        greatest(fresh.begin_time, fresh.end_time, fresh.insert_time, ticks.begin_time, ticks.end_time) AS end_time
    FROM fresh
    JOIN streams s ON s.stream_id = fresh.stream_id
    JOIN processes p ON p.process_id = fresh.process_id
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
),
marked AS (
    INSERT INTO lakehouse_buckets AS b (vid, bucket_begin, bucket_end, dirty, marks, min_claimed, max_claimed)
    SELECT $1, bucket_begin, bucket_begin + interval '1 hour', true, 1, min(begin_time), max(end_time)
    FROM claimed
    GROUP BY bucket_begin
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
-- Buckets that a reader of [$6, $7] (nanoseconds, null is open) may need, with their partitions. A dirty bucket is
-- judged by what its blocks claim, with a margin ($8, seconds); a partition by the rows that are in it. One row of nulls:
-- there are none. No row: what was looked at is gone.
WITH seen AS ({seen})
SELECT
    b.bucket_begin,
    b.dirty,
    b.missing_blocks,
    b.claimed_in_range,
    p.file_path,
    p.file_size,
    p.num_rows,
    p.min_event_ns,
    p.max_event_ns
FROM seen
LEFT JOIN (
    (
        SELECT
            *,
            ($6::bigint IS NULL
                OR max_claimed >= to_timestamp(least(greatest($6 / 1e9 - $8, -2e11), 9e12)))
            AND ($7::bigint IS NULL
                OR min_claimed <= to_timestamp(least(greatest($7 / 1e9 + $8, -2e11), 9e12))) AS claimed_in_range
        FROM lakehouse_buckets
        WHERE vid = $1
    ) AS b
    LEFT JOIN lakehouse_partitions p
        ON p.vid = b.vid
        AND p.bucket_begin = b.bucket_begin
        AND p.num_rows > 0
        AND ($6::bigint IS NULL OR p.max_event_ns >= $6)
        AND ($7::bigint IS NULL OR p.min_event_ns <= $7)
) ON b.claimed_in_range OR p.partition_id IS NOT NULL
WHERE seen.looked_before IS NOT NULL
ORDER BY b.bucket_begin, p.ordinal;

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
SELECT p.file_path, p.file_size, p.num_rows, p.min_event_ns, p.max_event_ns
FROM lakehouse_partitions p
WHERE p.vid = $1 AND p.num_rows > 0
ORDER BY p.bucket_begin, p.ordinal;

-- name: find_timing
-- The clock estimate of a process whose frequency is unknown, and only of such a process.
SELECT max(b.end_ticks) AS end_ticks, (extract(EPOCH FROM max(b.end_time)) * 1000000)::bigint AS end_us
FROM blocks b
WHERE b.process_id = $1;

-- name: find_clock
-- Of the process of a stream or of an id itself: whether its tick frequency is known, and its start.
SELECT p.process_id, p.tsc_frequency > 0 AS is_known, (extract(EPOCH FROM p.start_time) * 1000000)::bigint AS start_us
FROM processes p
WHERE p.process_id = coalesce((SELECT s.process_id FROM streams s WHERE s.stream_id = $1), $1);

-- name: mark_bucket
UPDATE lakehouse_buckets SET dirty = true, marks = marks + 1
WHERE (vid, bucket_begin) = ($1, $2);

-- name: read_bucket
WITH seen AS ({seen})
SELECT b.incarnation, b.dirty, b.marks, b.generation, b.src_digest
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

-- name: fetch_buckets_of
-- The buckets whose partitions are in the objects $2.
SELECT DISTINCT bucket_begin
FROM lakehouse_partitions
WHERE vid = $1 AND file_path = ANY ($2::text[]);

-- name: fetch_included
-- Which blocks the bucket's partitions hold already, and the ordinals in use.
SELECT ordinal, block_ids
FROM lakehouse_partitions
WHERE (vid, bucket_begin) = ($1, $2)
ORDER BY ordinal;

-- name: lock_bucket
-- One server at a time builds a bucket. Session level: no transaction stays open while blocks are decoded.
SELECT pg_try_advisory_lock(hashtextextended($1, 7142010));

-- name: unlock_bucket
SELECT pg_advisory_unlock(hashtextextended($1, 7142010));

-- name: reserve
-- Write intents, committed before the first byte: what a crash leaves behind can be found by them.
INSERT INTO staged_writes (
    staged_id, session_id, owner, schema_name, table_name, field, codec, store, path, is_prefix, state, lease_expires_at
)
SELECT staged_id, $1, $2, 'lake', 'partitions', 'data', 'parquet', $3, path, false, 'open',
    clock_timestamp() + $6::interval
FROM unnest($4::uuid[], $5::text[]) AS intent (staged_id, path);

-- name: lock_generation
SELECT incarnation, generation, marks, src_digest
FROM lakehouse_buckets
WHERE (vid, bucket_begin) = ($1, $2)
FOR UPDATE;

-- name: retire
DELETE FROM lakehouse_partitions
WHERE (vid, bucket_begin) = ($1, $2)
RETURNING file_path;

-- name: add_object
INSERT INTO lake_objects (store, path, schema_name, addressing, is_prefix, state, size)
VALUES ($1, $2, 'lake', 'schema', false, 'live', $3)
RETURNING object_id;

-- name: add_partition
-- Event times twice: exact in nanoseconds, and for people as timestamps widened to whole microseconds ($16, $17).
INSERT INTO lakehouse_partitions (
    vid, view_set_name, view_instance_id, bucket_begin, ordinal, generation, begin_insert_time, end_insert_time,
    min_event_time, max_event_time, min_event_ns, max_event_ns, updated, file_path, file_size, file_schema_hash,
    source_data_hash, num_rows, partition_format_version, sort_order, max_sort_key_time, object_id, missing_blocks,
    writer_version, block_ids
)
SELECT
    i.vid, i.view_set, i.instance_id, $2, $3, $4, $2, $2::timestamptz + interval '1 hour',
    $16, $17,
    $5, $6, clock_timestamp(), $7, $8, i.schema_hash,
    $9, $10, 2, $11, $12, $13, $14,
    i.writer_version, $15
FROM view_instances i
WHERE i.vid = $1;

-- name: finish_bucket
-- $3: somebody marked the bucket since its blocks were read. Not asked here: retiring partitions marks it as well, and takes
-- its digest.
UPDATE lakehouse_buckets SET
    dirty = $3,
    whole = ($12::int = 0),
    generation = $4,
    src_blocks = $5,
    src_objects = $6,
    src_digest = $7,
    src_max_insert = $8,
    timing_end_ticks = $9,
    timing_end_time = $10,
    missing_blocks = missing_blocks * $12::int + $11,
    repaired_events = repaired_events * $12::int + $13,
    updated = clock_timestamp()
WHERE (vid, bucket_begin) = ($1, $2);

-- name: clean_bucket
-- The blocks are those that are in the partitions already.
UPDATE lakehouse_buckets SET dirty = (marks <> $4), updated = clock_timestamp()
WHERE (vid, bucket_begin, incarnation) = ($1, $2, $3);

-- name: finish_intents
DELETE FROM staged_writes
WHERE staged_id = ANY ($1::uuid[]) AND state = 'open';

-- name: find_intents
-- After a commit whose answer was lost: waits for a server process that may still be at it.
SELECT staged_id
FROM staged_writes
WHERE staged_id = ANY ($1::uuid[])
FOR UPDATE;

-- name: add_quarantined
INSERT INTO quarantined_blocks (block_id, stream_id, process_id, view_set, writer_version, error)
SELECT q.block_id, q.stream_id, q.process_id, $1, $2, q.error
FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[]) AS q (block_id, stream_id, process_id, error)
ON CONFLICT (block_id, view_set, writer_version) DO UPDATE SET error = excluded.error;

-- name: seal_buckets
-- A bucket whose end lies before the oldest running transaction began can get no further block.
UPDATE lakehouse_buckets SET sealed = true
WHERE NOT sealed
    AND NOT dirty
    AND bucket_end < (
        SELECT coalesce(min(xact_start), clock_timestamp()) - interval '10 seconds'
        FROM pg_stat_activity
        WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
    );

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
ORDER BY i.vid
LIMIT $2;

-- name: lock_unused
-- A server of that version may have come back meanwhile.
SELECT vid
FROM view_instances
WHERE vid = $1 AND used < clock_timestamp() - $2::interval
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
