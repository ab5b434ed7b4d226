-- What has been materialized: view instances, their insert-time buckets, the Parquet files of each bucket.

CREATE TABLE view_instances (
    vid            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (vid BETWEEN 1 AND 9223372036854775806),
    view_set       text NOT NULL,
    instance_id    text NOT NULL,
    schema_hash    bytea NOT NULL,
    writer_version integer NOT NULL,
    looked_xmin    xid8,                               -- xmin of the snapshot of the last look; NULL before the first
    recent_blocks  uuid[] NOT NULL DEFAULT '{}',       -- blocks already seen whose ingest_xid is at or above looked_xmin
    created        timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (view_set, instance_id, schema_hash, writer_version)
);

-- The unit of replacement: everything of one instance that was inserted in one hour.
CREATE TABLE lakehouse_buckets (
    vid               bigint NOT NULL REFERENCES view_instances ON DELETE CASCADE,
    bucket_begin      timestamptz NOT NULL,
    bucket_end        timestamptz NOT NULL,
    dirty             boolean NOT NULL,                -- the sources have changed since the partitions were made
    marks             bigint NOT NULL DEFAULT 0,       -- how often it was made dirty: a builder sees whether it was again
    sealed            boolean NOT NULL DEFAULT false,              -- before the safe horizon, and verified: nothing can be added
    whole             boolean NOT NULL DEFAULT false,  -- made in one go: no deltas, nothing to gain by making it again
    src_blocks        integer NOT NULL DEFAULT 0 CHECK (src_blocks >= 0),
    src_objects       bigint NOT NULL DEFAULT 0 CHECK (src_objects >= 0),
    src_digest        bytea CHECK (octet_length(src_digest) = 16),
    src_max_insert    timestamptz,
    min_claimed       timestamptz,                     -- union of the times that its blocks claim: says whether a bucket
    max_claimed       timestamptz,                     -- that has not been materialized yet can matter to a query
    timing_end_ticks  bigint,
    timing_end_time   timestamptz,
    missing_blocks    integer NOT NULL DEFAULT 0 CHECK (missing_blocks >= 0),
    repaired_events   bigint NOT NULL DEFAULT 0 CHECK (repaired_events >= 0),
    generation        bigint NOT NULL DEFAULT 0,
    updated           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (vid, bucket_begin),
    CONSTRAINT lakehouse_buckets_aligned CHECK (
        extract(epoch FROM bucket_begin) % 3600 = 0 AND extract(epoch FROM bucket_end) % 3600 = 0
        AND bucket_begin < bucket_end
    ),
    CONSTRAINT lakehouse_buckets_claimed CHECK ((min_claimed IS NULL) = (max_claimed IS NULL)),
    CONSTRAINT lakehouse_buckets_no_overlap EXCLUDE USING gist (
        int8range(vid, vid, '[]') WITH &&,
        tstzrange(bucket_begin, bucket_end, '[)') WITH &&
    )
);
CREATE INDEX lakehouse_buckets_open ON lakehouse_buckets (vid, bucket_begin) WHERE dirty OR NOT sealed;

CREATE TABLE lakehouse_partitions (
    partition_id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    view_set_name            text NOT NULL,
    view_instance_id         text NOT NULL,
    begin_insert_time        timestamptz NOT NULL,
    end_insert_time          timestamptz NOT NULL,     -- exclusive
    min_event_time           timestamptz,              -- NULL: no rows. Rounded outward to what Postgres keeps,
    max_event_time           timestamptz,              -- the exact bounds are min_event_ns and max_event_ns
    updated                  timestamptz NOT NULL DEFAULT clock_timestamp(),
    file_path                text,                     -- key in the store; NULL: no rows
    file_size                bigint NOT NULL,
    file_schema_hash         bytea NOT NULL,
    source_data_hash         bytea,
    num_rows                 bigint NOT NULL,
    partition_format_version integer NOT NULL DEFAULT 1,
    sort_order               text[],                   -- the rows are proven to be in this order; NULL: no promise
    max_sort_key_time        timestamptz,
    vid                      bigint NOT NULL,
    bucket_begin             timestamptz NOT NULL,
    ordinal                  integer NOT NULL CHECK (ordinal BETWEEN 0 AND 2147483646),
    generation               bigint NOT NULL DEFAULT 0,
    object_id                bigint REFERENCES lake_objects,
    missing_blocks           integer NOT NULL DEFAULT 0 CHECK (missing_blocks >= 0),
    writer_version           integer NOT NULL,
    min_event_ns             bigint,
    max_event_ns             bigint,
    block_ids                uuid[] NOT NULL DEFAULT '{}', -- the blocks of a run of partitions, named by its first
    -- Buckets and partitions are written in one transaction, in any order.
    FOREIGN KEY (vid, bucket_begin) REFERENCES lakehouse_buckets ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT lakehouse_partitions_rows CHECK (
        num_rows >= 0 AND file_size >= 0
        AND (num_rows > 0) = (file_path IS NOT NULL)
        AND (num_rows > 0) = (object_id IS NOT NULL)
        AND (num_rows > 0) = (min_event_time IS NOT NULL)
        AND (num_rows > 0) = (max_event_time IS NOT NULL)
        AND (num_rows > 0) = (min_event_ns IS NOT NULL)
        AND (num_rows > 0) = (max_event_ns IS NOT NULL)
        AND (num_rows > 0 OR (max_sort_key_time IS NULL AND file_size = 0))
    ),
    CONSTRAINT lakehouse_partitions_range CHECK (begin_insert_time < end_insert_time),
    CONSTRAINT lakehouse_partitions_no_overlap EXCLUDE USING gist (
        int8range(vid, vid, '[]') WITH &&,
        int4range(ordinal, ordinal, '[]') WITH &&,
        tstzrange(begin_insert_time, end_insert_time, '[)') WITH &&
    )
);
CREATE INDEX lakehouse_partitions_bucket ON lakehouse_partitions (vid, bucket_begin);
CREATE INDEX lakehouse_partitions_events ON lakehouse_partitions (vid, min_event_ns, max_event_ns);
CREATE INDEX lakehouse_partitions_object ON lakehouse_partitions (object_id);

-- An object whose partition goes is released, never deleted: running queries may hold its name.
CREATE FUNCTION lakehouse_partitions_release() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lake_releases (object_id) SELECT object_id FROM gone WHERE object_id IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER lakehouse_partitions_release
    AFTER DELETE ON lakehouse_partitions
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION lakehouse_partitions_release();

-- Blocks whose bytes are kept and could not be decoded. A newer writer version tries again by itself.
CREATE TABLE quarantined_blocks (
    block_id       uuid NOT NULL,
    stream_id      uuid NOT NULL,
    process_id     uuid NOT NULL,
    view_set       text NOT NULL,
    writer_version integer NOT NULL,
    error          text NOT NULL,
    time           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (block_id, view_set, writer_version)
);

-- Values that all servers of a lake must share, such as the key that signs query handles.
CREATE TABLE lakehouse_settings (
    key   text PRIMARY KEY,
    value bytea NOT NULL
);
