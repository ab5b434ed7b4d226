-- API keys: {keys} is the table of readers or that of writers, two so that no look-up for one can find the other.

-- name: find
SELECT key_id, name, digest, expires_at
FROM {keys}
WHERE digest = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp());

-- name: add
INSERT INTO {keys} (name, digest, hint, created_by, expires_at)
VALUES ($1, $2, $3, $4, clock_timestamp() + $5::interval)
RETURNING key_id, name, hint, created_by, created_at, expires_at, last_used_at, revoked_at;

-- name: list
SELECT key_id, name, hint, created_by, created_at, expires_at, last_used_at, revoked_at
FROM {keys}
ORDER BY key_id;

-- name: revoke
-- A key that was revoked stays so since then.
UPDATE {keys}
SET revoked_at = COALESCE(revoked_at, clock_timestamp())
WHERE key_id = $1
RETURNING name;

-- name: note_use
-- Seldom: whoever asks has gathered the keys of a while, and a time that is near enough is left alone.
UPDATE {keys}
SET last_used_at = clock_timestamp()
WHERE key_id = ANY($1::bigint[]) AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - $2::interval);
