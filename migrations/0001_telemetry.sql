-- What programs send: processes, their streams, the envelopes of their blocks. The payloads are objects of the store.
--
-- ingest_xid is the transaction that brought a row. Together with a snapshot's xmin it says exactly which rows a reader
-- has not seen yet, which a clock cannot: rows become visible in another order than they were stamped.

CREATE TABLE processes (
    process_id        uuid PRIMARY KEY,
    exe               text NOT NULL,
    username          text NOT NULL,
    realname          text NOT NULL,
    computer          text NOT NULL,
    distro            text NOT NULL,
    cpu_brand         text NOT NULL,
    tsc_frequency     bigint NOT NULL,                   -- ticks per second; 0 is unknown
    start_time        timestamptz NOT NULL,
    start_ticks       bigint NOT NULL,
    insert_time       timestamptz NOT NULL DEFAULT clock_timestamp(),
    parent_process_id uuid,
    properties        json NOT NULL DEFAULT '{}',        -- an object of texts; json and not jsonb: the sender's order is kept
    ingest_xid        xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX processes_insert_time ON processes (insert_time);
CREATE INDEX processes_start_time ON processes (start_time);
CREATE INDEX processes_parent ON processes (parent_process_id) WHERE parent_process_id IS NOT NULL;
CREATE INDEX processes_ingest_xid ON processes (ingest_xid);

CREATE TABLE streams (
    stream_id             uuid PRIMARY KEY,
    process_id            uuid NOT NULL,                 -- no foreign key: requests arrive in any order
    dependencies_metadata bytea NOT NULL,                -- CBOR array of user-defined types
    objects_metadata      bytea NOT NULL,
    tags                  text[] NOT NULL DEFAULT '{}',
    properties            json NOT NULL DEFAULT '{}',
    insert_time           timestamptz NOT NULL DEFAULT clock_timestamp(),
    format                text NOT NULL DEFAULT 'micromegas-transit',
    ingest_xid            xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX streams_process ON streams (process_id);
CREATE INDEX streams_insert_time ON streams (insert_time);
CREATE INDEX streams_ingest_xid ON streams (ingest_xid);

CREATE TABLE blocks (
    block_id      uuid PRIMARY KEY,
    stream_id     uuid NOT NULL,
    process_id    uuid NOT NULL,
    begin_time    timestamptz NOT NULL,
    begin_ticks   bigint NOT NULL,
    end_time      timestamptz NOT NULL,
    end_ticks     bigint NOT NULL,
    nb_objects    integer NOT NULL,
    object_offset bigint NOT NULL,
    payload_size  bigint NOT NULL,
    insert_time   timestamptz NOT NULL DEFAULT clock_timestamp(),
    ingest_xid    xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX blocks_process_insert_time ON blocks (process_id, insert_time);
CREATE INDEX blocks_stream_insert_time ON blocks (stream_id, insert_time);
CREATE INDEX blocks_insert_time ON blocks (insert_time);
CREATE INDEX blocks_ingest_xid ON blocks (ingest_xid);
CREATE INDEX blocks_process_ingest_xid ON blocks (process_id, ingest_xid);
CREATE INDEX blocks_stream_ingest_xid ON blocks (stream_id, ingest_xid);
