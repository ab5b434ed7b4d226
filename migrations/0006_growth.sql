-- What is found costs what is found, however long the history of an instance is.

-- Buckets and partitions are looked for by the times that they claim and hold, which are ranges: one that begins long before
-- another may end long after it, so no order of one of the two times finds them.
CREATE INDEX lakehouse_buckets_claims ON lakehouse_buckets USING gist (
    int8range(vid, vid, '[]'),
    tstzrange(min_claimed, max_claimed, '[]')
);
CREATE INDEX lakehouse_partitions_times ON lakehouse_partitions USING gist (
    int8range(vid, vid, '[]'),
    int8range(min_event_ns, max_event_ns, '[]')
) WHERE num_rows > 0;
DROP INDEX lakehouse_partitions_events;

-- Buckets with blocks that are missing are few.
CREATE INDEX lakehouse_buckets_missing ON lakehouse_buckets (vid) WHERE missing_blocks > 0;
