-- What files may have, and who has sent blocks: known without opening the ones and without reading all of the others.

-- Which texts columns of a file may have: bits of a Bloom filter, as lakehouse/filters.py makes it. A file without one may have any.
CREATE TABLE lake_filters (
    store   text NOT NULL,
    path    text NOT NULL,
    columns text[] NOT NULL,                            -- those that it covers
    bits    bytea NOT NULL CHECK (octet_length(bits) BETWEEN 8 AND 1024),
    PRIMARY KEY (store, path),
    -- A file and its filter are named in one statement, in any order.
    FOREIGN KEY (store, path) REFERENCES lake_objects (store, path) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
ALTER TABLE lake_filters ALTER COLUMN bits SET STORAGE MAIN;

CREATE FUNCTION lakehouse_keep_filters(_store text, _paths text[], _columns text[], _bits bytea[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO lake_filters (store, path, columns, bits)
    SELECT _store, path, string_to_array(columns, ' '), bits
    FROM unnest(_paths, _columns, _bits) AS filter (path, columns, bits)
$$;

-- Of each stream the latest of its blocks, as far as they are noted: see lakehouse/catalog/sql/senders.sql.
CREATE TABLE lakehouse_senders (
    stream_id   uuid NOT NULL,
    process_id  uuid NOT NULL,                          -- as its blocks say
    insert_time timestamptz NOT NULL,
    end_ticks   bigint NOT NULL,
    end_time    timestamptz NOT NULL,
    PRIMARY KEY (stream_id, process_id)
);
CREATE INDEX lakehouse_senders_process ON lakehouse_senders (process_id);

-- What was noted, as of looks: everything below looked_before, but for looked_except.
CREATE TABLE lakehouse_notes (
    single        boolean PRIMARY KEY DEFAULT true CHECK (single),
    looked_before xid8,                                 -- NULL: nothing yet
    looked_except xid8[] NOT NULL DEFAULT '{}'
);

-- As in 0004, for notes as well.
CREATE OR REPLACE FUNCTION lakehouse_rebase() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    known bigint;
    ours boolean;
BEGIN
    SELECT base, written_by::xid = xmin INTO known, ours FROM lakehouse_transactions FOR UPDATE;
    IF lakehouse_continues() THEN
        RETURN known;
    END IF;
    known := greatest(known, lakehouse_newest(), 0);
    INSERT INTO lakehouse_transactions (base, written_by) VALUES (known, pg_current_xact_id())
    ON CONFLICT (single) DO UPDATE SET base = excluded.base, written_by = excluded.written_by;
    IF ours THEN
        UPDATE view_instances SET looked_before = NULL, looked_except = '{}' WHERE looked_before IS NOT NULL;
        UPDATE lakehouse_notes SET looked_before = NULL, looked_except = '{}' WHERE looked_before IS NOT NULL;
    END IF;
    RETURN known;
END $$;

-- Who has no block any more is not listed. Nobody takes notes meanwhile: it could be of a block that is not seen here.
CREATE FUNCTION lakehouse_senders_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM lakehouse_notes FOR UPDATE;
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM lakehouse_senders;
        RETURN NULL;
    END IF;
    DELETE FROM lakehouse_senders s
    USING (SELECT DISTINCT stream_id, process_id FROM gone) AS other
    WHERE (s.stream_id, s.process_id) = (other.stream_id, other.process_id)
        AND NOT EXISTS (
            SELECT FROM blocks b WHERE (b.stream_id, b.process_id) = (other.stream_id, other.process_id)
        );
    RETURN NULL;
END $$;
CREATE TRIGGER lakehouse_senders_forget
    AFTER DELETE ON blocks
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION lakehouse_senders_forget();
CREATE TRIGGER lakehouse_senders_emptied
    BEFORE TRUNCATE ON blocks
    FOR EACH STATEMENT EXECUTE FUNCTION lakehouse_senders_forget();
