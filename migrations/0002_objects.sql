-- Objects that lakeflight writes beside block payloads, and the journal that keeps their writing safe.
--
-- A write is reserved first (staged_writes), then done, then committed together with the row that names it. A kill in
-- between leaves an open reservation, which a reaper finds by its lease.

CREATE TABLE lake_objects (
    object_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store        text NOT NULL,
    path         text NOT NULL,
    schema_name  text NOT NULL,
    addressing   text NOT NULL CHECK (addressing IN ('hash', 'schema')),
    is_prefix    boolean NOT NULL DEFAULT false,
    state        text NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'deleting')),
    content_hash char(26),
    sha256       bytea CHECK (octet_length(sha256) = 32),
    size         bigint NOT NULL CHECK (size >= 0),
    item_count   integer NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    touched_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (store, path)
);
CREATE INDEX lake_objects_live ON lake_objects (touched_at) WHERE state = 'live';
CREATE INDEX lake_objects_schema ON lake_objects (schema_name, addressing);

CREATE TABLE lake_releases (
    object_id   bigint NOT NULL REFERENCES lake_objects ON DELETE CASCADE,
    released_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX lake_releases_object ON lake_releases (object_id);

CREATE TABLE staged_writes (
    staged_id        uuid PRIMARY KEY,
    session_id       uuid NOT NULL,
    owner            text NOT NULL,
    schema_name      text NOT NULL,
    table_name       text NOT NULL,
    field            text NOT NULL,
    codec            text NOT NULL,
    store            text NOT NULL,
    path             text NOT NULL,
    is_prefix        boolean NOT NULL DEFAULT false,
    upload_id        text,
    state            text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'reaping', 'reaped')),
    lease_expires_at timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (store, path)
);
CREATE INDEX staged_writes_open ON staged_writes (lease_expires_at) WHERE state = 'open';
