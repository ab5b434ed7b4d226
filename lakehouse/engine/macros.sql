-- Macros of every database of the engine, made before it is locked. A macro here shadows the built-in of its name.

-- The clock of a statement stands still: bounds that were derived from now() hold while the statement runs, and its
-- type can be compared with the time columns (the built-in's cannot). Keywords such as current_timestamp arrive here
-- as well, because the binder turns them into calls.
CREATE MACRO now() AS CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS);
CREATE MACRO get_current_timestamp() AS CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS);
CREATE MACRO transaction_timestamp() AS CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS);
CREATE MACRO current_localtimestamp() AS CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS);
CREATE MACRO today() AS CAST(CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS) AS DATE);
CREATE MACRO current_date() AS CAST(CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS) AS DATE);
CREATE MACRO ago(span) AS CAST(getvariable('lakeflight_now') AS TIMESTAMP_NS) - span;

-- A view instance is a view under a hashed name; a name that the gate has not resolved does not exist. Spellings of
-- one id meet in one name.
CREATE MACRO view_instance(view_set, instance) AS TABLE
SELECT * FROM query_table('vi_' || sha256(view_set || '/' || coalesce(CAST(try_cast(instance AS UUID) AS VARCHAR), instance)));
