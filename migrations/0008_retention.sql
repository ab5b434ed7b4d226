-- Retention: what is older than it is to be kept goes, without a reader noticing in the middle.

-- Blocks that came before kept_from are not seen any more: no look finds them and no table shows them. They are there for as
-- long as a query that saw them may run, so a row says since when. Only whole hours, never back.
CREATE TABLE lakehouse_horizons (
    kept_from timestamptz PRIMARY KEY CHECK (extract(EPOCH FROM kept_from) % 3600 = 0),
    since     timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION lakehouse_kept_from() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(kept_from), '-infinity') FROM lakehouse_horizons
$$;

-- Retention goes by time, whatever the instance.
CREATE INDEX lakehouse_buckets_begin ON lakehouse_buckets (bucket_begin);
CREATE INDEX lakehouse_buckets_frozen ON lakehouse_buckets (vid, bucket_begin) WHERE frozen;
CREATE INDEX view_instances_instance ON view_instances (instance_id);
