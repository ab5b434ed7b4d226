-- API keys of those who query and of those who send. Two tables: a look-up for one use can never find a key of the other.
-- Kept is the SHA-256 of 256 random bits, from which no key follows.

CREATE TABLE lakehouse_reader_keys (
    key_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL,         -- whose it is; two keys of one name are one identity, so that one can follow the other
    digest       bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    hint         text NOT NULL,         -- how it begins, to know it by
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz,           -- NULL: never
    last_used_at timestamptz,           -- to a few minutes
    revoked_at   timestamptz
);

CREATE TABLE lakehouse_writer_keys (
    key_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL,
    digest       bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    hint         text NOT NULL,
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
