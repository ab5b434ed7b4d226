-- Buckets longer than an hour: the hours of a closed day are merged into one bucket.

-- Its day was looked at: it is merged, or there is nothing to gain by merging it. What comes into a day later is not settled.
ALTER TABLE lakehouse_buckets ADD COLUMN settled boolean NOT NULL DEFAULT false;
CREATE INDEX lakehouse_buckets_unsettled ON lakehouse_buckets (bucket_begin, vid) WHERE NOT settled;

-- Merging takes rows of buckets away, and nothing that was seen.
CREATE OR REPLACE FUNCTION lakehouse_buckets_forget() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    instance record;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE view_instances SET looked_before = NULL, looked_except = '{}';
        RETURN NULL;
    END IF;
    IF coalesce(current_setting('lakeflight.merges', true), '') = 'on' THEN
        RETURN NULL;
    END IF;
    FOR instance IN SELECT DISTINCT vid FROM gone LOOP
        UPDATE view_instances SET looked_before = NULL, looked_except = '{}' WHERE vid = instance.vid;
    END LOOP;
    RETURN NULL;
END $$;

-- The partitions of a bucket that is being replaced, extended or merged.
CREATE FUNCTION lakehouse_add_partitions(
    _vid bigint,
    _begin timestamptz,
    _end timestamptz,
    _generation bigint,
    _store text,
    _partitions jsonb,
    _digest bytea,
    _sort_order text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    instance view_instances;
    part record;
    object bigint;
BEGIN
    SELECT * INTO instance FROM view_instances WHERE vid = _vid;
    FOR part IN
        SELECT *
        FROM jsonb_to_recordset(_partitions) AS p (
            ordinal integer,
            key text,
            size_bytes bigint,
            rows bigint,
            min_event_ns bigint,
            max_event_ns bigint,
            min_event_us bigint,
            max_event_us bigint,
            max_sort_key_us bigint,
            missing_blocks integer,
            block_ids uuid[],
            sha256 text,
            tail_digest text
        )
    LOOP
        object := NULL;
        IF part.key IS NOT NULL THEN
            INSERT INTO lake_objects (store, path, schema_name, addressing, is_prefix, state, size, sha256)
            VALUES (_store, part.key, 'lake', 'schema', false, 'live', part.size_bytes, decode(part.sha256, 'hex'))
            RETURNING object_id INTO object;
        END IF;
        -- Event times twice: exact in nanoseconds, and for people as timestamps widened to whole microseconds.
        INSERT INTO lakehouse_partitions (
            vid, view_set_name, view_instance_id, bucket_begin, ordinal, generation, begin_insert_time, end_insert_time,
            min_event_time, max_event_time, min_event_ns, max_event_ns, updated, file_path, file_size, file_schema_hash,
            source_data_hash, num_rows, partition_format_version, sort_order, max_sort_key_time, object_id,
            missing_blocks, writer_version, block_ids, tail_digest
        )
        VALUES (
            _vid, instance.view_set, instance.instance_id, _begin, part.ordinal, _generation, _begin, _end,
            'epoch'::timestamptz + part.min_event_us * interval '1 microsecond',
            'epoch'::timestamptz + part.max_event_us * interval '1 microsecond',
            part.min_event_ns, part.max_event_ns, clock_timestamp(), part.key, part.size_bytes, instance.schema_hash,
            _digest, part.rows, 2, _sort_order,
            'epoch'::timestamptz + part.max_sort_key_us * interval '1 microsecond', object,
            part.missing_blocks, instance.writer_version, part.block_ids, decode(part.tail_digest, 'hex')
        );
    END LOOP;
END $$;

-- What was announced is written: the intents end with the transaction that names the objects.
CREATE FUNCTION lakehouse_finish(_intents uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    finished bigint;
BEGIN
    DELETE FROM staged_writes WHERE staged_id = ANY (_intents) AND state = 'open';
    GET DIAGNOSTICS finished = ROW_COUNT;
    IF finished <> cardinality(_intents) THEN
        RAISE EXCEPTION 'a write intent ran out before the commit' USING ERRCODE = 'LF001';
    END IF;
END $$;

-- As before, of a bucket of any length: _end is where it ended when its blocks were read.
CREATE FUNCTION lakehouse_swap(
    _vid bigint,
    _begin timestamptz,
    _end timestamptz,
    _token uuid,
    _incarnation uuid,
    _generation bigint,
    _marks bigint,
    _digest_before bytea,
    _replaces boolean,
    _store text,
    _partitions jsonb,
    _intents uuid[],
    _digest bytea,
    _blocks integer,
    _objects bigint,
    _max_insert timestamptz,
    _timing_end_ticks bigint,
    _timing_end_time timestamptz,
    _missing_blocks integer,
    _repaired_events bigint,
    _sort_order text[],
    _quarantined jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    instance view_instances;
    bucket lakehouse_buckets;
BEGIN
    PERFORM FROM lakehouse_leases WHERE (vid, bucket_begin, token) = (_vid, _begin, _token) FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of % was not renewed in time', _begin USING ERRCODE = 'LF002';
    END IF;
    SELECT * INTO bucket FROM lakehouse_buckets WHERE (vid, bucket_begin) = (_vid, _begin) FOR UPDATE;
    IF NOT FOUND OR (bucket.incarnation, bucket.generation, bucket.bucket_end)
        IS DISTINCT FROM (_incarnation, _generation, _end)
    THEN
        RAISE EXCEPTION 'generation % of % is not current', _generation, _begin USING ERRCODE = 'LF001';
    END IF;
    IF NOT _replaces AND bucket.src_digest IS DISTINCT FROM _digest_before THEN
        RAISE EXCEPTION 'some of what is to be added to in % was removed', _begin USING ERRCODE = 'LF001';
    END IF;
    SELECT * INTO instance FROM view_instances WHERE vid = _vid;
    IF _replaces THEN
        DELETE FROM lakehouse_partitions WHERE (vid, bucket_begin) = (_vid, _begin);
    END IF;
    PERFORM lakehouse_add_partitions(
        _vid, _begin, _end, _generation + 1, _store, _partitions, _digest, _sort_order
    );
    -- dirty: somebody marked the bucket since its blocks were read. Not asked of the row as it is now: retiring partitions
    -- marks it as well, and takes its digest.
    UPDATE lakehouse_buckets SET
        dirty = bucket.marks <> _marks,
        -- What was made of a day's blocks is in files of its hours, which can be merged again.
        whole = _replaces AND _end - _begin = interval '1 hour',
        generation = _generation + 1,
        src_blocks = _blocks,
        src_objects = _objects,
        src_digest = _digest,
        src_max_insert = _max_insert,
        timing_end_ticks = _timing_end_ticks,
        timing_end_time = _timing_end_time,
        missing_blocks = CASE WHEN _replaces THEN 0 ELSE missing_blocks END + _missing_blocks,
        repaired_events = CASE WHEN _replaces THEN 0 ELSE repaired_events END + _repaired_events,
        updated = clock_timestamp()
    WHERE (vid, bucket_begin) = (_vid, _begin);
    INSERT INTO quarantined_blocks (block_id, stream_id, process_id, view_set, writer_version, error)
    SELECT q.block_id, q.stream_id, q.process_id, instance.view_set, instance.writer_version, q.error
    FROM jsonb_to_recordset(_quarantined) AS q (block_id uuid, stream_id uuid, process_id uuid, error text)
    ON CONFLICT (block_id, view_set, writer_version) DO UPDATE SET error = excluded.error;
    PERFORM lakehouse_finish(_intents);
    DELETE FROM lakehouse_leases WHERE (vid, bucket_begin, token) = (_vid, _begin, _token);
END $$;

-- Servers of the version before read the blocks of an hour. They may replace such a bucket, and are told to read a longer one
-- again until they give up: never would they leave an hour of a day.
CREATE OR REPLACE FUNCTION lakehouse_swap(
    _vid bigint,
    _begin timestamptz,
    _token uuid,
    _incarnation uuid,
    _generation bigint,
    _marks bigint,
    _digest_before bytea,
    _replaces boolean,
    _store text,
    _partitions jsonb,
    _intents uuid[],
    _digest bytea,
    _blocks integer,
    _objects bigint,
    _max_insert timestamptz,
    _timing_end_ticks bigint,
    _timing_end_time timestamptz,
    _missing_blocks integer,
    _repaired_events bigint,
    _sort_order text[],
    _quarantined jsonb
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lakehouse_swap(
        _vid, _begin, _begin + interval '1 hour', _token, _incarnation, _generation, _marks, _digest_before, _replaces, _store,
        _partitions, _intents, _digest, _blocks, _objects, _max_insert, _timing_end_ticks, _timing_end_time,
        _missing_blocks, _repaired_events, _sort_order, _quarantined
    );
END $$;

-- Several buckets become one, or one gets other files with the same rows. All of [_begin, _end) must be sealed, clean and as it
-- was when its files were read: _begins, _incarnations, _generations and _marks are the buckets in it. _missing_blocks and
-- _repaired_events: as many as theirs, if null. Errors as above.
CREATE FUNCTION lakehouse_merge(
    _vid bigint,
    _begin timestamptz,
    _end timestamptz,
    _token uuid,
    _begins timestamptz[],
    _incarnations uuid[],
    _generations bigint[],
    _marks bigint[],
    _store text,
    _partitions jsonb,
    _intents uuid[],
    _digest bytea,
    _timing_end_ticks bigint,
    _timing_end_time timestamptz,
    _missing_blocks integer,
    _repaired_events bigint,
    _whole boolean,
    _sort_order text[]
) RETURNS void LANGUAGE plpgsql SET lakeflight.merges = 'on' AS $$
DECLARE
    merged record;
BEGIN
    PERFORM FROM lakehouse_leases WHERE (vid, bucket_begin, token) = (_vid, _begin, _token) FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of % was not renewed in time', _begin USING ERRCODE = 'LF002';
    END IF;
    -- In the order in which a look locks them, which would otherwise wait for this one and this one for it.
    PERFORM FROM view_instances WHERE vid = _vid FOR KEY SHARE;
    PERFORM
    FROM lakehouse_buckets
    WHERE vid = _vid AND bucket_begin >= _begin AND bucket_begin < _end
    ORDER BY bucket_begin
    FOR UPDATE;
    SELECT
        count(*) AS buckets,
        bool_and(was.bucket_begin IS NOT NULL AND b.sealed AND NOT b.dirty AND b.bucket_end <= _end) AS unchanged,
        bool_or(b.frozen) AS frozen,
        sum(b.src_blocks) AS blocks,
        sum(b.src_objects) AS objects,
        max(b.src_max_insert) AS max_insert,
        min(b.min_claimed) AS min_claimed,
        max(b.max_claimed) AS max_claimed,
        sum(b.missing_blocks) AS missing_blocks,
        sum(b.repaired_events) AS repaired_events,
        max(b.generation) AS generation,
        max(b.marks) AS marks
    INTO merged
    FROM lakehouse_buckets b
    LEFT JOIN unnest(_begins, _incarnations, _generations, _marks)
        AS was (bucket_begin, incarnation, generation, marks)
        USING (bucket_begin, incarnation, generation, marks)
    WHERE b.vid = _vid AND b.bucket_begin >= _begin AND b.bucket_begin < _end;
    IF merged.buckets <> cardinality(_begins) OR merged.unchanged IS DISTINCT FROM true THEN
        RAISE EXCEPTION 'the buckets from % to % are not what they were', _begin, _end USING ERRCODE = 'LF001';
    END IF;
    DELETE FROM lakehouse_partitions WHERE vid = _vid AND bucket_begin >= _begin AND bucket_begin < _end;
    DELETE FROM lakehouse_buckets WHERE vid = _vid AND bucket_begin >= _begin AND bucket_begin < _end;
    INSERT INTO lakehouse_buckets (
        vid, bucket_begin, bucket_end, dirty, marks, sealed, whole, frozen, settled, src_blocks, src_objects, src_digest,
        src_max_insert, min_claimed, max_claimed, timing_end_ticks, timing_end_time, missing_blocks, repaired_events,
        generation
    )
    VALUES (
        _vid, _begin, _end, false, merged.marks, true, _whole, merged.frozen, _end - _begin > interval '1 hour',
        merged.blocks, merged.objects, _digest, merged.max_insert, merged.min_claimed, merged.max_claimed,
        _timing_end_ticks, _timing_end_time, coalesce(_missing_blocks, merged.missing_blocks),
        coalesce(_repaired_events, merged.repaired_events), merged.generation + 1
    );
    PERFORM lakehouse_add_partitions(
        _vid, _begin, _end, merged.generation + 1, _store, _partitions, _digest, _sort_order
    );
    PERFORM lakehouse_finish(_intents);
    DELETE FROM lakehouse_leases WHERE (vid, bucket_begin, token) = (_vid, _begin, _token);
END $$;
