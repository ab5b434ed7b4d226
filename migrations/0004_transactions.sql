-- Looks that cost what is new, ids that survive a move to another cluster, rows that may be removed by hand, and when an
-- instance was last used.

-- The last look is kept as its snapshot: everything below looked_before was committed, but for looked_except, which were
-- running. There are never more of those than connections, however long one of them takes.
ALTER TABLE view_instances
    DROP COLUMN looked_xmin,
    DROP COLUMN recent_blocks,
    ADD COLUMN looked_before xid8,                      -- NULL before the first look
    ADD COLUMN looked_except xid8[] NOT NULL DEFAULT '{}',
    ADD COLUMN used timestamptz NOT NULL DEFAULT clock_timestamp(); -- by a query or by maintenance, to the hour

-- Transaction ids belong to one cluster. A dump takes the ids of its rows into a cluster that counts from elsewhere, where
-- rows that come later could get lower ones and would never be seen. So rows are stamped with the cluster's id plus a base,
-- which is raised above every id of the database when they turn out to be of another cluster.
--
-- They do when the one row of this table was not written by the transaction that it names: copying a row keeps its values,
-- and another transaction writes the copy, as its xmin says. A copy of the files (a snapshot, pg_rewind, pg_upgrade,
-- CREATE DATABASE ... TEMPLATE) keeps the rows, their xmin and the counter together, and nothing has to change.
CREATE TABLE lakehouse_transactions (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single),
    base       bigint NOT NULL CHECK (base >= 0),
    written_by xid8 NOT NULL                            -- never inside a savepoint, whose id would be in xmin instead
);
INSERT INTO lakehouse_transactions (base, written_by) VALUES (0, pg_current_xact_id());

CREATE FUNCTION lakehouse_shifted(id xid8, base bigint) RETURNS xid8 LANGUAGE sql IMMUTABLE AS $$
    SELECT (id::text::bigint + base)::text::xid8
$$;

-- The id that a row is stamped with.
CREATE FUNCTION lakehouse_xid() RETURNS xid8 LANGUAGE plpgsql AS $$
DECLARE
    known bigint;
BEGIN
    SELECT base INTO known FROM lakehouse_transactions WHERE written_by::xid = xmin;
    IF known IS NULL THEN
        known := lakehouse_rebase();
    END IF;
    RETURN lakehouse_shifted(pg_current_xact_id(), known);
END $$;

-- The highest id that there is.
CREATE FUNCTION lakehouse_newest() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT max(id::text::bigint)
    FROM (
        (SELECT ingest_xid FROM processes ORDER BY ingest_xid DESC LIMIT 1)
        UNION ALL
        (SELECT ingest_xid FROM streams ORDER BY ingest_xid DESC LIMIT 1)
        UNION ALL
        (SELECT ingest_xid FROM blocks ORDER BY ingest_xid DESC LIMIT 1)
        UNION ALL
        (SELECT looked_before FROM view_instances ORDER BY looked_before DESC NULLS LAST LIMIT 1)
    ) AS stamped (id)
$$;

-- Whether new ids are above all that there are. Reads only, and waits for nobody.
CREATE FUNCTION lakehouse_continues() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (
            SELECT written_by::xid = xmin
                AND coalesce(lakehouse_newest() <= pg_snapshot_xmax(pg_current_snapshot())::text::bigint + base, true)
            FROM lakehouse_transactions
        ),
        false
    )
$$;

-- The base under which new ids are above all that there are. Raises it if the ids are another cluster's, and also if they
-- are merely too high for this one (pg_resetwal, rows copied by hand): then rows may have come with lower ids already,
-- so that all instances are looked at from the start.
CREATE FUNCTION lakehouse_rebase() RETURNS bigint LANGUAGE plpgsql AS $$
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
    END IF;
    RETURN known;
END $$;

-- Which of the rows that a bucket has had this one is: marks and generation start over with each of them.
ALTER TABLE lakehouse_buckets ADD COLUMN incarnation uuid NOT NULL DEFAULT gen_random_uuid();

ALTER TABLE processes ALTER COLUMN ingest_xid SET DEFAULT lakehouse_xid();
ALTER TABLE streams ALTER COLUMN ingest_xid SET DEFAULT lakehouse_xid();
ALTER TABLE blocks ALTER COLUMN ingest_xid SET DEFAULT lakehouse_xid();

-- Rows that an operator removes are made again, by servers that are running too. What partitions went from is stale, and
-- without its digest nothing is added to the rest: a block may be in several partitions, and is named by one of them ...
-- The loops are for the planner: a join with what is gone might read all buckets, for each swap of one.
CREATE OR REPLACE FUNCTION lakehouse_partitions_release() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    bucket record;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO lake_releases (object_id) SELECT object_id FROM lakehouse_partitions WHERE object_id IS NOT NULL;
        UPDATE lakehouse_buckets SET dirty = true, marks = marks + 1, src_digest = NULL;
        RETURN NULL;
    END IF;
    INSERT INTO lake_releases (object_id) SELECT object_id FROM gone WHERE object_id IS NOT NULL;
    FOR bucket IN SELECT DISTINCT vid, bucket_begin FROM gone LOOP
        UPDATE lakehouse_buckets SET dirty = true, marks = marks + 1, src_digest = NULL
        WHERE vid = bucket.vid AND bucket_begin = bucket.bucket_begin;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER lakehouse_partitions_emptied
    BEFORE TRUNCATE ON lakehouse_partitions
    FOR EACH STATEMENT EXECUTE FUNCTION lakehouse_partitions_release();

-- ... and an instance whose buckets went has seen nothing.
CREATE FUNCTION lakehouse_buckets_forget() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    instance record;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE view_instances SET looked_before = NULL, looked_except = '{}';
        RETURN NULL;
    END IF;
    FOR instance IN SELECT DISTINCT vid FROM gone LOOP
        UPDATE view_instances SET looked_before = NULL, looked_except = '{}' WHERE vid = instance.vid;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER lakehouse_buckets_forget
    AFTER DELETE ON lakehouse_buckets
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION lakehouse_buckets_forget();
CREATE TRIGGER lakehouse_buckets_emptied
    AFTER TRUNCATE ON lakehouse_buckets
    FOR EACH STATEMENT EXECUTE FUNCTION lakehouse_buckets_forget();
