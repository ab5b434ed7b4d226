-- What maintenance has done, and what it has found in the store that nothing names.

-- When each task was last done by any server: how far behind it is, and whether its turn has come.
CREATE TABLE lakehouse_tasks (
    task    text PRIMARY KEY,
    owner   text NOT NULL,
    done_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Files of partitions that no row names. One is deleted once it was seen so for long.
CREATE TABLE lakehouse_orphans (
    store   text NOT NULL,
    path    text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (store, path)
);
