-- Values that all servers of a lake share.

-- name: add
INSERT INTO lakehouse_settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING;

-- name: fetch
SELECT value FROM lakehouse_settings WHERE key = $1;
