-- Buckets that are kept as they are, builders that hold a bucket for a while and no longer, files known by what was written.

-- Never made again from blocks: what it holds stays when the rows of its blocks go.
ALTER TABLE lakehouse_buckets ADD COLUMN frozen boolean NOT NULL DEFAULT false;

-- Over the last 64 KiB of the file, which has what the reader of a Parquet file reads first. lake_objects.sha256 is over all
-- of it. NULL: written before either was kept.
ALTER TABLE lakehouse_partitions ADD COLUMN tail_digest bytea CHECK (octet_length(tail_digest) = 16);

-- Who makes a bucket at the moment. A holder that does not renew its lease, because it is stopped or gone, is replaced; its
-- swap then finds another's token, or none. Unlogged: writing it waits for no disk, and what a crash of the database leaves
-- of it is nothing, which every holder survives by building again.
CREATE UNLOGGED TABLE lakehouse_leases (
    vid          bigint NOT NULL,
    bucket_begin timestamptz NOT NULL,
    token        uuid NOT NULL,
    owner        text NOT NULL,
    since        timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (vid, bucket_begin)
);

-- One change of a bucket: everything in it happens, or nothing. One statement, so that no transaction waits for its client,
-- which may be stopped, with the bucket's row locked. Errors: LF001, the bucket or an intent is not what it was; LF002, the
-- lease is another's.
CREATE FUNCTION lakehouse_swap(
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
DECLARE
    instance view_instances;
    bucket lakehouse_buckets;
    part record;
    object bigint;
    finished bigint;
BEGIN
    PERFORM FROM lakehouse_leases WHERE (vid, bucket_begin, token) = (_vid, _begin, _token) FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of % was not renewed in time', _begin USING ERRCODE = 'LF002';
    END IF;
    SELECT * INTO bucket FROM lakehouse_buckets WHERE (vid, bucket_begin) = (_vid, _begin) FOR UPDATE;
    IF NOT FOUND OR (bucket.incarnation, bucket.generation) IS DISTINCT FROM (_incarnation, _generation) THEN
        RAISE EXCEPTION 'generation % of % is not current', _generation, _begin USING ERRCODE = 'LF001';
    END IF;
    IF NOT _replaces AND bucket.src_digest IS DISTINCT FROM _digest_before THEN
        RAISE EXCEPTION 'some of what is to be added to in % was removed', _begin USING ERRCODE = 'LF001';
    END IF;
    SELECT * INTO instance FROM view_instances WHERE vid = _vid;
    IF _replaces THEN
        DELETE FROM lakehouse_partitions WHERE (vid, bucket_begin) = (_vid, _begin);
    END IF;
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
            _vid, instance.view_set, instance.instance_id, _begin, part.ordinal, _generation + 1, _begin,
            _begin + interval '1 hour',
            'epoch'::timestamptz + part.min_event_us * interval '1 microsecond',
            'epoch'::timestamptz + part.max_event_us * interval '1 microsecond',
            part.min_event_ns, part.max_event_ns, clock_timestamp(), part.key, part.size_bytes, instance.schema_hash,
            _digest, part.rows, 2, _sort_order,
            'epoch'::timestamptz + part.max_sort_key_us * interval '1 microsecond', object,
            part.missing_blocks, instance.writer_version, part.block_ids, decode(part.tail_digest, 'hex')
        );
    END LOOP;
    -- dirty: somebody marked the bucket since its blocks were read. Not asked of the row as it is now: retiring partitions
    -- marks it as well, and takes its digest.
    UPDATE lakehouse_buckets SET
        dirty = bucket.marks <> _marks,
        whole = _replaces,
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
    DELETE FROM staged_writes WHERE staged_id = ANY (_intents) AND state = 'open';
    GET DIAGNOSTICS finished = ROW_COUNT;
    IF finished <> cardinality(_intents) THEN
        RAISE EXCEPTION 'a write intent ran out before the commit' USING ERRCODE = 'LF001';
    END IF;
    DELETE FROM lakehouse_leases WHERE (vid, bucket_begin, token) = (_vid, _begin, _token);
END $$;
