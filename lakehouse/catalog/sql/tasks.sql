-- Tasks of maintenance: who does one, and when it was last done.

-- name: try_lead
-- For as long as the session lasts. The keys are a space of their own, beside that of single numbers.
SELECT pg_try_advisory_lock($1::integer, hashtext($2::text));

-- name: still_there
SELECT 1;

-- name: fetch_age
SELECT clock_timestamp() - done_at FROM lakehouse_tasks WHERE task = $1;

-- name: note_done
INSERT INTO lakehouse_tasks (task, owner) VALUES ($1, $2)
ON CONFLICT (task) DO UPDATE SET owner = excluded.owner, done_at = clock_timestamp();
