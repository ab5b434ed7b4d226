-- The documented statements of the original: 267, near-duplicates left out, some abridged to the constructs that matter.
--
-- `-- 17 N (where it is documented)` heads a statement. Class: N native DuckDB, M macros, T table functions, R a repair, P more
-- than SQL, X must be an error. Then come, as comments, what a reader should know and what is expected of it:
--
--   note        from the documents
--   with        replacements beyond those that hold for all: old => new, several of them divided by ;;
--   rows        the rows, as JSON
--   count       how many rows
--   columns     the columns, in order, where rows cannot be known
--   model       another spelling for the model, in plain DuckDB; without it the statement itself is asked there
--   empty       why it has no row; without it at least one is demanded
--   near        columns that are approximate by what they are
--   error       what the error says
--   gap         why it does not do what it must, beside what its error says; the test fails once it does
--
-- `-- table name` heads a table of the documents' own making, which statements about it get as a common table expression.

-- table events
SELECT * FROM (VALUES
    ('spatial_event', make_timestamp_ns(1700000000000000001), 'p1', '{"items":[1,2,3,4,5,6],"position":[1.5,2,-3],"actor_id":"a","event_type":"move","teams":[{"players":[{"type":"human","profile_id":"x1"},{"type":"bot","profile_id":"x2"}]}]}', 70.0, 30.0),
    ('other', make_timestamp_ns(1700000000000000002), 'p2', '{"items":[1]}', 20.0, -30.0),
    ('spatial_event', make_timestamp_ns(1700000000000000003), 'p2', '{"position":[7],"actor_id":9}', 74.9, 24.0)
) t(name, time, process_id, msg_jsonb, x, y)

-- table cpu_usage_per_process_per_minute
SELECT {recent} AS time_bin, make_histogram(0.0, 100.0, 4, v) AS duration_histogram, make_histogram(0.0, 100.0, 4, v) AS cpu_usage_histo FROM (VALUES (1, 5.0), (1, 30.0), (2, 99.0), (2, 60.0), (2, 61.0)) t(p, v) GROUP BY p

-- table performance_histograms
SELECT make_histogram(0.0, 50.0, 5, v) AS duration_histogram, make_histogram(0.0, 50.0, 5, v) AS response_time_histogram FROM (VALUES (5.0), (15.0), (25.0), (35.0), (45.0)) t(v)

-- table my_events
SELECT * FROM (VALUES (1.0, 2.0, 3.0, 0.0), (4.0, 5.0, 6.0, 50.0), (7.0, 8.0, 9.0, 200.0)) t(x, y, z, value)

-- table density_grid
SELECT * FROM (VALUES (1.0, 2.0, 0.0, 8.0), (3.0, 4.0, 4.0, 8.0), (5.0, 6.0, 8.0, 8.0)) t(x, y, value, max_value)

-- table scaled
SELECT * FROM (VALUES (0.0), (1.0), (2.0)) t(t)

-- table cells
SELECT * FROM (VALUES (0), (10), (40)) t(cnt)

-- table frame_metrics
SELECT * FROM (VALUES (make_timestamp_ns(1700000000000000001), 15000), (make_timestamp_ns(1700000000000000002), 17000)) t(time, frame_time_us)

-- table raw_metrics
SELECT * FROM (VALUES ('cpu', 0.5), ('cpu', 0.9), ('disk', 7.0)) t(name, value)

-- table thresholds
SELECT * FROM (VALUES ('cpu', 0.7, 0.95), ('disk', 10.0, 20.0)) t(metric, warn_threshold, error_threshold)


-- === Metadata and administration ===

-- 1 T (admin/functions)
-- columns: view_set_name, current_schema_hash, schema, has_view_maker, global_instance_available
SELECT * FROM list_view_sets()

-- 2 T (admin/functions)
-- columns: view_set_name, current_schema_hash, has_view_maker
SELECT view_set_name, current_schema_hash, has_view_maker FROM list_view_sets() ORDER BY view_set_name

-- 3 T (admin/functions)
-- note: hash is binary; text `[4]` never equals it
-- rows: []
SELECT * FROM list_view_sets() WHERE current_schema_hash = '[4]'

-- 4 T (admin/functions)
-- columns: *
SELECT * FROM list_partitions()

-- 5 T (admin/functions)
-- columns: file_path, file_size, file_schema_hash
SELECT file_path, file_size, file_schema_hash FROM list_partitions() WHERE view_set_name = 'log_entries'

-- 6 T (admin/functions)
-- note: log rows
-- columns: time, msg
SELECT * FROM retire_partitions('log_entries', 'process-123', '2024-01-01T00:00:00Z', '2024-01-02T00:00:00Z')

-- 7 T (admin/functions)
-- columns: time, msg
SELECT * FROM regenerate_partitions('blocks', '2024-01-01T00:00:00Z', '2024-01-02T00:00:00Z', 86400)

-- 8 P (admin/functions)
-- rows: [["ERROR: Partition not found: log_entries/process-123 [2024-01-01T00:00:00Z, 2024-01-01T01:00:00Z)"]]
SELECT retire_partition_by_metadata('log_entries', 'process-123', TIMESTAMP '2024-01-01 00:00:00', TIMESTAMP '2024-01-01 01:00:00') as result

-- 9 P (admin/functions)
-- rows: [["ERROR: Partition not found: s3://bucket/data/log_entries/process-123/2024/01/01/file.parquet"]]
SELECT retire_partition_by_file('s3://bucket/data/log_entries/process-123/2024/01/01/file.parquet') as result

-- 10 T (admin/functions)
-- gap: statements are not denied by rules here: identities have limits of their own
-- error: lakeflight has no deny list
SELECT * FROM deny_queries('sql_hash = ''9f2c41ab73de0155'' AND entrypoint = ''grafana-alert''', 'alert rule re-firing on failure; owner notified')

-- 11 T (admin/functions)
-- note: quotes doubled
-- gap: statements are not denied by rules here: identities have limits of their own
-- error: lakeflight has no deny list
SELECT * FROM deny_queries('sql LIKE ''%thread_spans%'' OR client_ip = ''10.4.9.221''', 'incident: thread_spans scan storm')

-- 12 T (admin/functions)
-- gap: statements are not denied by rules here: identities have limits of their own
-- error: lakeflight has no deny list
SELECT * FROM list_query_denials()

-- 13 P (admin/functions)
-- note: text status
-- gap: statements are not denied by rules here: identities have limits of their own
-- error: lakeflight has no deny list
SELECT remove_query_denial('9f2c41ab-73de-4015-9d2e-000000000000') as result

-- 14 T (admin/functions)
-- note: abridged
-- columns: view_set_name, versions, incompatible
SELECT vs.view_set_name, COUNT(DISTINCT p.file_schema_hash) AS versions, SUM(CASE WHEN p.file_schema_hash != vs.current_schema_hash THEN 1 ELSE 0 END) AS incompatible FROM list_view_sets() vs LEFT JOIN list_partitions() p ON vs.view_set_name = p.view_set_name GROUP BY vs.view_set_name, vs.current_schema_hash ORDER BY incompatible DESC

-- 15 M+T (admin/functions)
-- note: abridged
-- rows: []
SELECT p.view_set_name, COUNT(*) AS n, MIN(p.end_insert_time) AS oldest FROM list_partitions() p JOIN list_view_sets() vs ON p.view_set_name = vs.view_set_name WHERE p.file_schema_hash != vs.current_schema_hash AND p.end_insert_time < NOW() - INTERVAL '30 days' GROUP BY p.view_set_name, p.file_schema_hash, vs.current_schema_hash

-- 16 T (admin/functions)
-- note: abridged
-- columns: view_set_name, bad, pct
WITH bad AS (SELECT p.view_set_name, COUNT(*) AS n, SUM(p.file_size) AS b FROM list_partitions() p JOIN list_view_sets() vs ON p.view_set_name = vs.view_set_name WHERE p.file_schema_hash != vs.current_schema_hash GROUP BY p.view_set_name), tot AS (SELECT view_set_name, COUNT(*) AS n FROM list_partitions() GROUP BY view_set_name) SELECT t.view_set_name, COALESCE(b.n, 0) AS bad, ROUND(100.0 * COALESCE(b.n, 0) / t.n, 2) AS pct FROM tot t LEFT JOIN bad b ON t.view_set_name = b.view_set_name

-- 17 N (qg/functions)
SELECT block_id, nb_objects, "streams.format" FROM blocks LIMIT 5

-- 18 M+P (qg/functions)
-- columns: process_id, stream_id, block_id, payload
SELECT process_id, stream_id, block_id, get_payload(process_id, stream_id, block_id) as payload FROM blocks WHERE insert_time >= NOW() - INTERVAL '1 hour' LIMIT 10

-- 19 M (qg/schema)
SELECT process_id, exe, computer, start_time FROM processes WHERE start_time >= NOW() - INTERVAL '1 day' ORDER BY start_time DESC

-- 20 N (qg/schema)
SELECT stream_id, tags, properties FROM streams WHERE process_id = 'my_process_123'

-- 21 N (qg/schema)
SELECT s.stream_id, s.tags, p.exe, p.computer FROM streams s JOIN processes p ON s.process_id = p.process_id

-- 22 M (qg/schema)
SELECT process_id, AVG(payload_size) as avg_block_size, AVG(nb_objects) as avg_objects_per_block, COUNT(*) as total_blocks FROM blocks WHERE insert_time >= NOW() - INTERVAL '1 hour' GROUP BY process_id

-- 23 T (python admin)
-- rows: []
SELECT p.view_set_name, p.view_instance_id, p.begin_insert_time, p.end_insert_time, p.file_schema_hash as incompatible_schema_hash, vs.current_schema_hash, p.file_path, p.file_size FROM list_partitions() p JOIN list_view_sets() vs ON p.view_set_name = vs.view_set_name WHERE p.file_schema_hash != vs.current_schema_hash AND p.view_set_name = 'log_entries' ORDER BY p.view_set_name, p.view_instance_id, p.begin_insert_time

-- 24 N (python client query_streams)
SELECT * FROM streams WHERE process_id='p' AND (array_position(tags, 'log') is not NULL) LIMIT 10

-- 25 T (python client retire)
-- columns: time, msg
SELECT time, msg FROM retire_partitions('log_entries', 'p', '2024-01-01T00:00:00+00:00', '2024-01-02T00:00:00+00:00')

-- 26 R (show tables)
-- note: 4 columns
-- rows: [["lakeflight", "main", "blocks", "BASE TABLE"], ["lakeflight", "main", "log_entries", "BASE TABLE"], ["lakeflight", "main", "log_stats", "BASE TABLE"], ["lakeflight", "main", "measures", "BASE TABLE"], ["lakeflight", "main", "processes", "BASE TABLE"], ["lakeflight", "main", "quarantined_blocks", "BASE TABLE"], ["lakeflight", "main", "streams", "BASE TABLE"]]
SHOW TABLES

-- 27 N (info schema)
-- rows: [["lakeflight", "main", "blocks", "BASE TABLE"], ["lakeflight", "main", "log_entries", "BASE TABLE"], ["lakeflight", "main", "log_stats", "BASE TABLE"], ["lakeflight", "main", "measures", "BASE TABLE"], ["lakeflight", "main", "processes", "BASE TABLE"], ["lakeflight", "main", "quarantined_blocks", "BASE TABLE"], ["lakeflight", "main", "streams", "BASE TABLE"]]
SELECT * FROM information_schema.tables


-- === Logs, log_stats, measures ===

-- 28 M (admin/flight-sql)
SELECT time, msg FROM log_entries WHERE level <= 3 AND msg LIKE 'query denied%' AND time >= NOW() - INTERVAL '1 hour' ORDER BY time DESC

-- 29 M (admin/flight-sql)
SELECT date_bin(INTERVAL '1 minute', time) AS minute, property_get(properties, 'rule_id') AS rule_id, sum(value) AS denied FROM measures WHERE name = 'query_denied' AND time >= NOW() - INTERVAL '6 hours' GROUP BY minute, rule_id ORDER BY minute

-- 30 M (admin/maintenance)
SELECT property_get(properties, 'table') AS table, property_get(properties, 'index') AS index, max(value) AS idx_scans FROM measures WHERE name = 'pg_index_scans' GROUP BY 1, 2 HAVING max(value) = 0 ORDER BY 1, 2

-- 31 N (admin/maintenance)
-- note: abridged
WITH bounds AS (SELECT min(value) FILTER (WHERE name = 'pg_db_blocks_hit') AS h0, max(value) FILTER (WHERE name = 'pg_db_blocks_hit') AS h1 FROM measures WHERE name IN ('pg_db_blocks_hit', 'pg_db_blocks_read')) SELECT (h1 - h0)::float / nullif(h1 + h0, 0) AS ratio FROM bounds

-- 32 M (admin/redis-exporter)
SELECT time, value FROM measures WHERE name = 'redis_used_memory_bytes' AND property_get(properties, 'instance') = 'my-redis:6379'

-- 33 M (admin/redis-exporter)
SELECT time, value FROM measures WHERE name = 'redis_used_memory_bytes' AND property_get(process_properties, 'cluster') = 'prod'

-- 34 N (blender/index)
SELECT time, level, target, msg FROM log_entries WHERE target LIKE 'blender.%' ORDER BY time DESC LIMIT 100

-- 35 T (blender/index)
SELECT time, msg FROM view_instance('log_entries', 'my_process_id') WHERE target IN ('blender.action', 'blender.action_redo') ORDER BY time DESC LIMIT 100

-- 36 R+M (blog/mtbf-unified-telemetry)
-- note: output columns `date`, `mtbc_hours`; a time difference cast to Int64 is ns; abridged
-- model: SELECT date_bin('1 day', start_time) as date, SUM((epoch_ns(last_block_end_time) - epoch_ns(start_time)) / 3.6e12) / SUM(COALESCE(c.count, 0)) as MTBC_hours FROM processes LEFT JOIN (SELECT process_id, count FROM log_stats WHERE level = 1) c ON processes.process_id = c.process_id WHERE exe = 'my-service.exe' GROUP BY date ORDER BY date
SELECT date_bin('1 day', start_time) as date, SUM(arrow_cast(last_block_end_time - start_time, 'Int64') / 3.6e12) / SUM(COALESCE(c.count, 0)) as MTBC_hours FROM processes LEFT JOIN (SELECT process_id, count FROM log_stats WHERE level = 1) c ON processes.process_id = c.process_id WHERE exe = 'my-service.exe' GROUP BY date ORDER BY date

-- 37 M (grafana/usage)
SELECT date_bin('1 minute', time) AS time, exe, COUNT(*) as event_count FROM log_entries WHERE level = 2 GROUP BY 1, 2 ORDER BY 1

-- 38 M (grafana/usage)
SELECT date_bin('5 minutes', time) AS time, name, AVG(value) as avg_value, MAX(value) as max_value FROM measures WHERE name LIKE 'cpu.%' GROUP BY 1, 2 ORDER BY 1

-- 39 N (grafana/usage)
SELECT DISTINCT exe FROM processes

-- 40 N (grafana/usage)
SELECT time_bin as time, SUM(CASE WHEN level <= 2 THEN count ELSE 0 END) as error_count FROM log_stats GROUP BY time_bin ORDER BY time_bin

-- 41 M (grafana/usage)
SELECT date_bin('1 minute', time) AS time, COUNT(*) as error_count FROM log_entries WHERE level <= 2 GROUP BY 1 ORDER BY 1

-- 42 N (otlp/index)
SELECT time, name, value FROM measures WHERE name LIKE 'amazonaws.com/AWS/EC2/CPUUtilization\_%' ESCAPE '\'

-- 43 T (qg/advanced-features)
SELECT * FROM view_instance('log_entries', 'my_process_123') WHERE level <= 2

-- 44 T (qg/advanced-features)
SELECT * FROM view_instance('measures', 'my_process_123') WHERE name = 'cpu_usage'

-- 45 M (qg/functions)
SELECT date_trunc('hour', time) as hour, COUNT(*) as error_count FROM log_entries WHERE level <= 2 AND time >= NOW() - INTERVAL '24 hours' GROUP BY date_trunc('hour', time) ORDER BY hour

-- 46 T (qg/index)
SELECT * FROM view_instance('log_entries', 'my_process')

-- 47 M (qg/query-patterns)
SELECT time, process_id, target, msg FROM log_entries WHERE level <= 2 AND time >= NOW() - INTERVAL '1 hour' ORDER BY time DESC

-- 48 M (qg/query-patterns)
SELECT date_trunc('minute', time) as minute, name, AVG(value) as avg_value, unit FROM measures WHERE name IN ('cpu_usage', 'memory_usage') AND time >= NOW() - INTERVAL '1 hour' GROUP BY minute, name, unit ORDER BY minute, name

-- 49 M+T (qg/schema)
SELECT level, COUNT(*) as count FROM view_instance('log_entries', 'my_process_123') WHERE time >= NOW() - INTERVAL '1 day' GROUP BY level ORDER BY level

-- 50 M (qg/schema)
SELECT time_bin, SUM(count) as total_logs, SUM(CASE WHEN level <= 2 THEN count ELSE 0 END) as error_count FROM log_stats WHERE time_bin >= NOW() - INTERVAL '1 hour' GROUP BY time_bin ORDER BY time_bin

-- 51 M (qg/schema)
SELECT target, SUM(count) as total_logs, COUNT(DISTINCT time_bin) as active_minutes FROM log_stats WHERE time_bin >= NOW() - INTERVAL '1 day' GROUP BY target ORDER BY total_logs DESC LIMIT 20

-- 52 M (qg/schema)
SELECT process_id, time_bin, SUM(CASE WHEN level <= 2 THEN count ELSE 0 END) * 100.0 / SUM(count) as error_percentage FROM log_stats WHERE time_bin >= NOW() - INTERVAL '6 hours' GROUP BY process_id, time_bin HAVING SUM(count) > 100 ORDER BY time_bin, error_percentage DESC

-- 53 M (qg/schema)
SELECT level, SUM(count) as total_count, SUM(count) * 100.0 / (SELECT SUM(count) FROM log_stats WHERE time_bin >= NOW() - INTERVAL '1 day') as percentage FROM log_stats WHERE time_bin >= NOW() - INTERVAL '1 day' GROUP BY level ORDER BY level

-- 54 M (qg/schema)
SELECT time, value, unit FROM measures WHERE name = 'cpu_usage' AND time >= NOW() - INTERVAL '1 hour' ORDER BY time

-- 55 M (qg/schema)
SELECT process_id, AVG(value) as avg_memory, MAX(value) as peak_memory, unit FROM measures WHERE name LIKE '%memory%' AND time >= NOW() - INTERVAL '1 hour' GROUP BY process_id, unit

-- 56 N (qg/schema)
SELECT l.time, l.level, l.msg, p.exe, p.computer FROM log_entries l JOIN processes p ON l.process_id = p.process_id WHERE l.level <= 2

-- 57 N (qg/schema)
SELECT m.time, m.name, m.value, s.tags FROM measures m JOIN streams s ON m.stream_id = s.stream_id WHERE m.name = 'cpu_usage'

-- 58 N (skill)
SELECT date_trunc('hour', time_bin) as hour, SUM(count) as total FROM log_stats WHERE level <= 2 GROUP BY 1 ORDER BY 1

-- 59 N (nb/cell-types)
SELECT CASE level WHEN 1 THEN 'FATAL' WHEN 2 THEN 'ERROR' WHEN 3 THEN 'WARN' WHEN 4 THEN 'INFO' WHEN 5 THEN 'DEBUG' ELSE 'TRACE' END AS level_name, count(*) AS count FROM log_entries GROUP BY level_name ORDER BY count DESC

-- 60 N (nb/cell-types)
SELECT m.name, m.value, t.warn_threshold, t.error_threshold FROM raw_metrics m JOIN thresholds t ON m.name = t.metric WHERE m.value > t.warn_threshold


-- === JSONB and properties ===

-- 61 M (otlp/index)
SELECT jsonb_as_string(jsonb_get(properties, 'otel.scope.name')) FROM log_entries WHERE process_id = '...'

-- 62 M (otlp/index)
SELECT process_id, exe, computer, jsonb_as_string(jsonb_get(properties, 'otel.resource.service.instance.id')) AS instance FROM processes WHERE jsonb_as_string(jsonb_get(properties, 'otel.resource.service.name')) = 'claude-code' ORDER BY start_time DESC LIMIT 5

-- 63 M (otlp/index)
SELECT count(*) FROM log_entries WHERE process_id IN (SELECT process_id FROM processes WHERE jsonb_as_string(jsonb_get(properties, 'otel.resource.service.name')) = 'claude-code')

-- 64 M (otlp/index)
SELECT jsonb_as_string(jsonb_get(jsonb_parse(msg), 'object_kind')) AS kind, jsonb_as_i64(jsonb_path_query_first(jsonb_parse(msg), '$.object_attributes.iid')) AS iid, jsonb_array_length(jsonb_get(jsonb_parse(msg), 'commits')) AS nb_commits FROM log_entries WHERE target = 'gitlab.push' ORDER BY time DESC LIMIT 10

-- 65 M (qg/functions)
SELECT jsonb_parse('{"name": "web_server", "port": 8080}') as parsed_json FROM processes

-- 66 M (qg/functions)
-- note: → `"Alice"`
-- rows: [["\"Alice\""]]
SELECT jsonb_path_query_first(jsonb_parse('{"user": {"name": "Alice"}}'), '$.user.name') as name

-- 67 M (qg/functions)
-- note: → 20
-- rows: [["20"]]
SELECT jsonb_path_query_first(jsonb_parse('{"items": [10, 20, 30]}'), '$.items[1]') as second

-- 68 M (qg/functions)
-- note: → `["Alice","Bob"]`
-- rows: [["[\"Alice\",\"Bob\"]"]]
SELECT jsonb_path_query(jsonb_parse('{"users": [{"name": "Alice"}, {"name": "Bob"}]}'), '$.users[*].name') as names

-- 69 M (qg/functions)
-- note: → `[1,2,3]`
-- rows: [["[1,2,3]"]]
SELECT jsonb_path_query(jsonb_parse('[1, 2, 3]'), '$[*]') as all_items

-- 70 M (qg/functions)
-- note: → `[]`
-- rows: [["[]"]]
SELECT jsonb_path_query(jsonb_parse('{"a": 1}'), '$.missing') as result

-- 71 P (qg/functions)
-- note: filter path
-- rows: [["[{\"id\":1,\"type\":\"active\"}]"]]
SELECT jsonb_path_query(jsonb_parse('{"items": [{"type": "active", "id": 1}, {"type": "inactive", "id": 2}]}'), '$.items[*] ? (@.type == "active")') as active_items

-- 72 P (qg/functions)
-- note: filter path
-- rows: [["[{\"name\":\"Alice\",\"val\":85}]"]]
SELECT jsonb_path_query(jsonb_parse('{"scores": [{"name": "Alice", "val": 85}, {"name": "Bob", "val": 42}]}'), '$.scores[*] ? (@.val > 50)') as high_scores

-- 73 P (qg/functions)
-- note: filter path
-- rows: [["{\"name\":\"Alice\",\"role\":\"admin\"}"]]
SELECT jsonb_path_query_first(jsonb_parse('{"users": [{"role": "admin", "name": "Alice"}, {"role": "user", "name": "Bob"}]}'), '$.users[*] ? (@.role == "admin")') as first_admin

-- 74 M (qg/functions)
SELECT jsonb_get(jsonb_parse('{"name": "web_server", "port": 8080}'), 'name') as name_value FROM processes

-- 75 M (qg/functions)
SELECT jsonb_format_json(properties_to_jsonb(properties)) as json_props FROM log_entries

-- 76 M (qg/functions)
SELECT jsonb_format_json(properties) as json_string FROM processes WHERE properties IS NOT NULL

-- 77 M (qg/functions)
SELECT jsonb_as_string(jsonb_get(jsonb_parse('{"service": "web_server"}'), 'service')) as service_name FROM processes

-- 78 M (qg/functions)
SELECT jsonb_as_f64(jsonb_get(jsonb_parse('{"cpu_usage": 75.5}'), 'cpu_usage')) as cpu_usage FROM processes

-- 79 M (qg/functions)
SELECT jsonb_as_i64(jsonb_get(jsonb_parse('{"port": 8080}'), 'port')) as port_number FROM processes

-- 80 M (qg/functions)
-- note: → [name, port]
-- rows: [[["name", "port"]]]
SELECT jsonb_object_keys(jsonb_parse('{"name": "server", "port": 8080}')) as keys

-- 81 M (qg/functions)
SELECT jsonb_object_keys(properties) as prop_keys FROM processes LIMIT 5

-- 82 M (qg/functions)
-- note: → 3
-- rows: [[3]]
SELECT jsonb_array_length(jsonb_parse('[1, 2, 3]')) as len

-- 83 M (qg/functions)
-- note: → 0
-- rows: [[0]]
SELECT jsonb_array_length(jsonb_parse('[]')) as len

-- 84 M (qg/functions)
-- note: → NULL
-- rows: [[null]]
SELECT jsonb_array_length(jsonb_parse('{"key": "value"}')) as len

-- 85 M (qg/functions)
SELECT * FROM events WHERE jsonb_array_length(jsonb_get(msg_jsonb, 'items')) > 5

-- 86 M (qg/functions)
-- note: one row expected
SELECT key, jsonb_as_string(value) as value FROM jsonb_each((SELECT properties FROM processes WHERE process_id = 'my_process_123'))

-- 87 M (qg/functions)
SELECT key, jsonb_format_json(value) as json_value FROM jsonb_each((SELECT jsonb_parse('{"name": "server", "port": 8080, "tags": ["prod", "us-east"]}')))

-- 88 M (qg/functions)
-- note: → ("0",10),("1",20),("2",30)
-- rows: [["0", "10"], ["1", "20"], ["2", "30"]]
SELECT key as index, jsonb_format_json(value) as element FROM jsonb_each((SELECT jsonb_parse('[10, 20, 30]')))

-- 89 M (qg/functions)
-- note: → three NULLs
-- rows: [[null], [null], [null]]
SELECT jsonb_as_string(value) as val FROM jsonb_array_elements(jsonb_parse('[1, 2, 3]'))

-- 90 M (qg/functions)
SELECT jsonb_as_string(jsonb_get(value, 'name')) as name FROM jsonb_array_elements(jsonb_parse('[{"name": "Alice"}, {"name": "Bob"}]'))

-- 91 M (qg/functions)
SELECT jsonb_as_string(jsonb_get(value, 'profile_id')) as profile_id FROM jsonb_array_elements((SELECT jsonb_path_query(msg_jsonb, '$.teams[*].players[*]') FROM events LIMIT 1)) WHERE jsonb_as_string(jsonb_get(value, 'type')) = 'human'

-- 92 M (qg/functions)
SELECT time, name, value FROM measures WHERE property_get(properties, 'source') = 'system_monitor'

-- 93 M (qg/functions)
SELECT time, msg, property_get(properties, 'service') as service FROM log_entries WHERE property_get(properties, 'env') = 'production'

-- 94 M (qg/functions)
SELECT properties_length(properties) as prop_count FROM measures

-- 95 M (qg/functions)
SELECT properties_length(properties_to_dict(properties)) as prop_count FROM measures

-- 96 M (qg/functions)
SELECT properties_length(properties_to_jsonb(properties)) as prop_count FROM measures

-- 97 M (qg/functions)
SELECT properties_to_dict(properties) as dict_props FROM measures

-- 98 M (qg/functions)
SELECT array_length(properties_to_array(properties_to_dict(properties))) as prop_count FROM measures

-- 99 M (qg/functions)
SELECT jsonb_get(properties_to_jsonb(properties), 'hostname') as hostname FROM log_entries

-- 100 M (qg/functions)
SELECT properties_to_jsonb(properties_to_dict(properties)) as jsonb_props FROM measures

-- 101 M (qg/functions)
SELECT properties_to_array(properties_to_dict(properties)) as props FROM measures

-- 102 M (qg/functions)
SELECT time, level, msg, property_get(process_properties, 'thread-name') as thread FROM log_entries WHERE property_get(process_properties, 'thread-name') LIKE '%worker%' ORDER BY time DESC

-- 103 M (qg/functions)
SELECT time, msg, property_get(properties_to_jsonb(properties), 'service') as service, property_get(properties_to_jsonb(properties), 'version') as version FROM log_entries WHERE property_get(properties_to_jsonb(properties), 'env') = 'production' AND time >= NOW() - INTERVAL '1 hour' ORDER BY time DESC

-- 104 M (qg/functions)
WITH jsonb_logs AS (SELECT time, level, msg, properties_to_jsonb(properties) as jsonb_props FROM log_entries WHERE time >= NOW() - INTERVAL '1 day') SELECT time, level, msg, property_get(jsonb_props, 'service') as service, property_get(jsonb_props, 'request_id') as request_id FROM jsonb_logs WHERE property_get(jsonb_props, 'error_code') IS NOT NULL ORDER BY time DESC

-- 105 M (qg/functions)
SELECT property_get(properties_to_jsonb(properties), 'service') as service, property_get(properties_to_jsonb(properties), 'env') as environment, COUNT(*) as event_count, COUNT(CASE WHEN level <= 2 THEN 1 END) as error_count FROM log_entries WHERE time >= NOW() - INTERVAL '1 hour' AND property_get(properties_to_jsonb(properties), 'service') IS NOT NULL GROUP BY service, environment ORDER BY error_count DESC

-- 106 M (qg/functions)
SELECT time, msg, jsonb_as_string(jsonb_get(jsonb_parse(msg), 'service')) as service_name, jsonb_as_i64(jsonb_get(jsonb_parse(msg), 'port')) as port, jsonb_as_f64(jsonb_get(jsonb_parse(msg), 'cpu_limit')) as cpu_limit FROM log_entries WHERE msg LIKE '%{%' AND jsonb_parse(msg) IS NOT NULL ORDER BY time DESC

-- 107 M (qg/functions)
SELECT jsonb_as_string(jsonb_get(jsonb_parse(msg), 'service')) as service, COUNT(*) as event_count, AVG(jsonb_as_f64(jsonb_get(jsonb_parse(msg), 'response_time'))) as avg_response_ms FROM log_entries WHERE msg LIKE '%response_time%' AND jsonb_parse(msg) IS NOT NULL GROUP BY service ORDER BY avg_response_ms DESC

-- 108 M (qg/query-audit-log)
SELECT time, jsonb_parse(msg) AS j FROM log_entries WHERE target = 'flightsql_query_audit' AND time >= NOW() - INTERVAL '1 hour' ORDER BY time DESC LIMIT 20

-- 109 M (qg/query-audit-log)
-- note: abridged
-- near: p95_ms
WITH q AS (SELECT time, jsonb_parse(msg) AS j FROM log_entries WHERE target = 'flightsql_query_audit' AND time >= NOW() - INTERVAL '1 hour') SELECT jsonb_as_string(jsonb_get(j, 'client')) AS client, count(*) AS queries, sum(jsonb_as_f64(jsonb_get(j, 'total_ms'))) AS total_ms, approx_percentile_cont(jsonb_as_f64(jsonb_get(j, 'total_ms')), 0.95) AS p95_ms FROM q GROUP BY client ORDER BY total_ms DESC

-- 110 M (qg/query-audit-log)
WITH q AS (SELECT time, jsonb_parse(msg) AS j FROM log_entries WHERE target = 'flightsql_query_audit' AND time >= NOW() - INTERVAL '1 hour') SELECT time, jsonb_as_string(jsonb_get(j, 'email')) AS email, jsonb_as_f64(jsonb_get(j, 'total_ms')) AS total_ms, jsonb_as_i64(jsonb_get(j, 'bytes_scanned')) AS bytes_scanned, jsonb_as_string(jsonb_get(j, 'sql')) AS sql FROM q ORDER BY total_ms DESC LIMIT 20

-- 111 M (qg/query-audit-log)
-- note: abridged
WITH q AS (SELECT jsonb_parse(msg) AS j FROM log_entries WHERE target = 'flightsql_query_audit') SELECT jsonb_as_string(jsonb_get(j, 'sql_hash')) AS sql_hash, count(*) AS queries, sum(jsonb_as_i64(jsonb_get(j, 'bytes_scanned'))) AS bytes_scanned, min(jsonb_as_string(jsonb_get(j, 'sql'))) AS sample_sql FROM q GROUP BY sql_hash ORDER BY queries DESC

-- 112 M (qg/query-audit-log)
WITH q AS (SELECT time, jsonb_parse(msg) AS j FROM log_entries WHERE target = 'flightsql_query_audit' AND time >= NOW() - INTERVAL '1 hour') SELECT jsonb_as_string(jsonb_get(j, 'error_class')) AS error_class, count(*) AS failures FROM q WHERE jsonb_as_string(jsonb_get(j, 'status')) = 'error' GROUP BY error_class ORDER BY failures DESC

-- 113 M (qg/schema)
SELECT property_get(process_properties, 'thread-name') as thread_name FROM log_entries WHERE property_get(process_properties, 'thread-name') IS NOT NULL

-- 114 M (qg/schema)
SELECT properties_length(properties) as prop_count FROM log_entries WHERE properties_length(properties) > 0

-- 115 M (nb/cell-types)
SELECT time, process_id, jsonb_as_f64(jsonb_path_query_first(msg_jsonb, '$.position[0]')) as x, jsonb_as_f64(jsonb_path_query_first(msg_jsonb, '$.position[1]')) as y, jsonb_as_f64(jsonb_path_query_first(msg_jsonb, '$.position[2]')) as z, jsonb_as_string(jsonb_path_query_first(msg_jsonb, '$.actor_id')) as actor_id, jsonb_as_string(jsonb_path_query_first(msg_jsonb, '$.event_type')) as event_type FROM events WHERE name = 'spatial_event' LIMIT 10000

-- 116 M (skill)
SELECT time, msg, property_get(process_properties, 'thread-name') as thread FROM log_entries WHERE level <= 3 LIMIT 20


-- === Histograms, colours, binning ===

-- 117 M+T (qg/functions)
-- note: FLOAT64 type name
SELECT make_histogram(0.0, 50.0, 20, CAST(duration AS FLOAT64) / 1000000.0) as duration_histogram FROM view_instance('thread_spans', 'web_server_123') WHERE name = 'handle_request'

-- 118 M (qg/functions)
SELECT sum_histograms(duration_histogram) as combined_histogram FROM cpu_usage_per_process_per_minute WHERE time_bin >= NOW() - INTERVAL '1 hour'

-- 119 M (qg/functions)
SELECT bin_center, count FROM expand_histogram((SELECT make_histogram(0.0, 100.0, 100, value) FROM measures WHERE name = 'cpu_usage'))

-- 120 M+T (qg/functions)
SELECT bin_center, count FROM expand_histogram((SELECT make_histogram(0.0, 50.0, 50, value) FROM view_instance('measures', 'my_process_123') WHERE name = 'frame_time'))

-- 121 M (qg/functions)
SELECT quantile_from_histogram(duration_histogram, 0.5) as median_duration FROM performance_histograms

-- 122 M (qg/functions)
SELECT variance_from_histogram(duration_histogram) as duration_variance FROM performance_histograms

-- 123 M (qg/functions)
SELECT count_from_histogram(duration_histogram) as total_samples FROM performance_histograms

-- 124 M (qg/functions)
SELECT sum_from_histogram(duration_histogram) as total_duration FROM performance_histograms

-- 125 M+T (qg/functions)
SELECT make_histogram(0.0, 100.0, 10, duration / 1000000.0) as response_time_ms_histogram FROM view_instance('thread_spans', 'web_server') WHERE name = 'handle_request' AND duration > 1000000

-- 126 M (qg/functions)
-- note: abridged
SELECT quantile_from_histogram(response_time_histogram, 0.5) as median_ms, variance_from_histogram(response_time_histogram) as variance, count_from_histogram(response_time_histogram) as n, sum_from_histogram(response_time_histogram) as total FROM performance_histograms

-- 127 M (qg/functions)
SELECT time_bin, sum_histograms(cpu_usage_histo) as combined_cpu_histogram, quantile_from_histogram(sum_histograms(cpu_usage_histo), 0.95) as p95_cpu FROM cpu_usage_per_process_per_minute WHERE time_bin >= NOW() - INTERVAL '1 day' GROUP BY time_bin ORDER BY time_bin

-- 128 M+T (skill)
SELECT name, quantile_from_histogram(make_histogram(0, 100000000, 50, duration), 0.5)/1e6 as p50_ms, quantile_from_histogram(make_histogram(0, 100000000, 50, duration), 0.95)/1e6 as p95_ms, quantile_from_histogram(make_histogram(0, 100000000, 50, duration), 0.99)/1e6 as p99_ms, COUNT(*) FROM process_spans('<process_id>', 'thread') GROUP BY name ORDER BY p95_ms DESC LIMIT 20

-- 129 M+T (skill)
-- with: <span_name> => telemetry_generator::sync_operation
SELECT bin_center/1e6 as ms, count FROM expand_histogram((SELECT make_histogram(0, 100000000, 50, duration) FROM process_spans('<process_id>', 'thread') WHERE name = '<span_name>'))

-- 130 M (qg/functions)
-- note: → 4278190335 (0xff0000ff)
-- rows: [[4278190335]]
SELECT rgba(1, 0, 0, 1) AS color

-- 131 M (qg/functions)
-- note: → 0x808080ff
-- rows: [[2155905279]]
SELECT rgba(0.5, 0.5, 0.5, 1) AS color

-- 132 M (qg/functions)
SELECT x, y, z, lerp_color(rgba(0, 0.5, 1, 1), rgba(1, 0.2, 0, 1), value / 100.0) AS color FROM my_events

-- 133 R+M (qg/functions)
-- note: → 0x80800000; also needs UINTEGER
-- rows: [[2155872256]]
SELECT lerp_color(CAST(4278190080 AS INT UNSIGNED), CAST(16711680 AS INT UNSIGNED), 0.5) AS color

-- 134 P (qg/functions)
-- rows: [[1.0, 2.0, 1140937907], [3.0, 4.0, 563186867], [5.0, 6.0, 4259784115]]
SELECT x, y, color_scale('viridis', value / max_value, 0.7) AS color FROM density_grid

-- 135 P (qg/functions)
-- rows: [[2499432703]]
SELECT color_scale('turbo', 0.5, 1.0)

-- 136 M (qg/functions)
SELECT bin_center(x, 50.0) AS x, bin_center(y, 50.0) AS y, COUNT(*) AS cnt FROM events GROUP BY 1, 2

-- 137 M+P (qg/functions)
-- rows: [[1152], [4244612351], [4244612351]]
SELECT color_scale('inferno', t, lerp(0.5, 1.0, t)) AS color FROM scaled

-- 138 M+P (qg/functions)
-- columns: cnt, t, color
WITH scaled AS (SELECT cnt, unlerp(0.0, MAX(cnt) OVER (), CAST(cnt AS DOUBLE)) AS t FROM cells) SELECT cnt, t, color_scale('inferno', t, lerp(0.5, 1.0, t)) AS color FROM scaled

-- 139 M (nb/cell-types)
SELECT time, frame_time_us AS value, CASE WHEN frame_time_us > $budget_us THEN rgba(0.8, 0.1, 0.1, 1.0) ELSE rgba(0.2, 0.7, 0.2, 1.0) END AS color FROM frame_metrics ORDER BY time


-- === Spans, async, net, OTLP spans, images, block payloads ===

-- 140 T (qg/async)
SELECT * FROM process_spans('process-uuid', 'async')

-- 141 R+T (qg/async)
-- note: bare `end`
SELECT name, begin, end, depth, thread_name as lane FROM process_spans('process-uuid', 'both') ORDER BY lane, begin

-- 142 R+T (qg/async)
SELECT name, COUNT(*) as operation_count, AVG(duration_ms) as avg_duration, MIN(duration_ms) as min_duration, MAX(duration_ms) as max_duration, STDDEV(duration_ms) as duration_stddev FROM (SELECT begin_events.name, ⟨DUR⟩ as duration_ms ⟨PAIR0⟩) GROUP BY name ORDER BY avg_duration DESC

-- 143 R+M+T (qg/async)
-- near: median_duration p95_duration p99_duration
SELECT depth, COUNT(*) as span_count, AVG(duration_ms) as avg_duration, approx_percentile_cont(duration_ms, 0.5) as median_duration, approx_percentile_cont(duration_ms, 0.95) as p95_duration, approx_percentile_cont(duration_ms, 0.99) as p99_duration FROM (SELECT begin_events.depth, ⟨DUR⟩ as duration_ms ⟨PAIR⟩) GROUP BY depth ORDER BY depth

-- 144 R+T (qg/async)
SELECT name, depth, COUNT(*) as occurrence_count, AVG(duration_ms) as avg_duration FROM (SELECT begin_events.name, begin_events.depth, ⟨DUR⟩ as duration_ms ⟨PAIR⟩) WHERE depth >= 3 GROUP BY name, depth ORDER BY depth DESC, occurrence_count DESC

-- 145 R+T (qg/async)
SELECT depth, name, COUNT(*) as call_count, AVG(duration_ms) as avg_duration, COUNT(*) * AVG(duration_ms) as total_time_spent FROM (SELECT begin_events.name, begin_events.depth, ⟨DUR⟩ as duration_ms ⟨PAIR⟩) GROUP BY depth, name ORDER BY total_time_spent DESC

-- 146 R+M+T (qg/async)
-- note: abridged
-- near: p95
WITH d AS (SELECT begin_events.name, begin_events.depth, ⟨DUR⟩ AS ms ⟨PAIR⟩) SELECT 'Depth' AS kind, CAST(depth AS VARCHAR) AS name, COUNT(*) AS n, approx_percentile_cont(ms, 0.95) AS p95 FROM d GROUP BY depth UNION ALL SELECT 'Top', name, COUNT(*), NULL FROM d WHERE depth = 0 GROUP BY name ORDER BY kind

-- 147 T (qg/functions)
SELECT time, level, msg FROM view_instance('log_entries', 'my_process_123') WHERE level <= 3

-- 148 T (qg/functions)
-- note: needs stream id and range
SELECT name, duration FROM view_instance('thread_spans', 'stream_456') WHERE duration > 1000000

-- 149 T (qg/functions)
-- columns: chunk_id, chunk_data
-- with: process-uuid-123 => {generator} ;; '2024-01-01T00:00:00Z' => '2020-01-01T00:00:00Z' ;; '2024-01-01T01:00:00Z' => '2100-01-01T00:00:00Z'
SELECT chunk_id, chunk_data FROM perfetto_trace_chunks('process-uuid-123', 'thread', TIMESTAMP '2024-01-01T00:00:00Z', TIMESTAMP '2024-01-01T01:00:00Z') ORDER BY chunk_id

-- 150 M+T (qg/functions)
-- columns: chunk_id, chunk_data
-- with: my-process-id => {generator}
SELECT chunk_id, chunk_data FROM perfetto_trace_chunks('my-process-id', 'both', NOW() - INTERVAL '1 hour', NOW()) ORDER BY chunk_id

-- 151 T (qg/functions)
SELECT stream_id, thread_name, name, duration FROM process_spans('process-uuid-123', 'thread') ORDER BY begin

-- 152 T (qg/functions)
SELECT thread_name, name, AVG(duration) / 1000000.0 as avg_ms FROM process_spans('my-process-id', 'both') WHERE depth = 0 GROUP BY thread_name, name ORDER BY avg_ms DESC

-- 153 M+T (qg/functions)
-- with: block_id) => '{log_block}')
-- count: 207
SELECT object_index, type_name, jsonb_format_json(value) FROM parse_block(block_id)

-- 154 M+T (qg/functions)
-- count: 207
SELECT object_index, type_name, jsonb_format_json(value) FROM parse_block('550e8400-e29b-41d4-a716-446655440000')

-- 155 M+T (qg/functions)
-- count: 203
SELECT object_index, jsonb_format_json(value) FROM parse_block('550e8400-e29b-41d4-a716-446655440000') WHERE type_name LIKE 'Log%'

-- 156 M+T (qg/functions)
-- rows: []
SELECT object_index, type_name, jsonb_as_string(jsonb_get(value, 'msg')) as msg FROM parse_block('550e8400-e29b-41d4-a716-446655440000') WHERE type_name = 'LogStringInteropEvent' LIMIT 10

-- 157 M+T (qg/functions)
-- note: nested get
-- count: 207
SELECT jsonb_as_string(jsonb_get(jsonb_get(value, '__attributes'), 'my.event.id')) FROM parse_block('550e8400-e29b-41d4-a716-446655440000')

-- 158 T (qg/functions)
SELECT name, COUNT(*) as call_count, AVG(duration) / 1000000.0 as avg_ms, MAX(duration) / 1000000.0 as max_ms, STDDEV(duration) / 1000000.0 as stddev_ms FROM view_instance('thread_spans', 'my_process') WHERE duration > 100000 GROUP BY name ORDER BY avg_ms DESC LIMIT 10

-- 159 T (qg/query-patterns)
SELECT name, AVG(duration) / 1000000.0 as avg_ms, MAX(duration) / 1000000.0 as max_ms, COUNT(*) as call_count FROM view_instance('thread_spans', 'my_process') WHERE duration > 10000000 GROUP BY name ORDER BY avg_ms DESC LIMIT 10

-- 160 R+T (qg/query-patterns)
SELECT name, AVG(duration_ms) as avg_duration, MAX(duration_ms) as max_duration, COUNT(*) as operation_count FROM (SELECT begin_events.name, ⟨DUR⟩ as duration_ms ⟨PAIR0⟩) GROUP BY name ORDER BY avg_duration DESC LIMIT 10

-- 161 R+T (qg/query-patterns)
-- note: abridged
SELECT parent.name, COUNT(*) AS n, AVG(CAST((child_end.time - child_begin.time) AS BIGINT) / 1000000) AS child_ms FROM view_instance('async_events', 'my_process') parent JOIN view_instance('async_events', 'my_process') child_begin ON parent.span_id = child_begin.parent_span_id AND child_begin.event_type = 'begin' JOIN view_instance('async_events', 'my_process') child_end ON child_begin.span_id = child_end.span_id AND child_end.event_type = 'end' WHERE parent.event_type = 'begin' GROUP BY parent.name HAVING COUNT(*) > 5

-- 162 M+T (qg/query-patterns)
SELECT time, event_type, name, depth, span_id, parent_span_id, REPEAT(' ', depth) || name as indented_name FROM view_instance('async_events', 'my_process') WHERE time >= NOW() - INTERVAL '10 minutes' ORDER BY time

-- 163 T (qg/schema)
-- note: stream id
SELECT name, AVG(duration) as avg_duration_ns, COUNT(*) as call_count FROM view_instance('thread_spans', 'stream_123') WHERE duration > 1000000 GROUP BY name ORDER BY avg_duration_ns DESC LIMIT 10

-- 164 T (qg/schema)
-- with: parent = 42 => parent = -1
SELECT depth, name, duration FROM view_instance('thread_spans', 'stream_123') WHERE parent = 42 ORDER BY begin

-- 165 R+T (qg/schema)
SELECT name, depth, AVG(duration_ms) as avg_duration, COUNT(*) as operation_count FROM (SELECT begin_events.name, begin_events.depth, ⟨DUR⟩ as duration_ms ⟨PAIR⟩ AND begin_events.depth = 0) GROUP BY name, depth ORDER BY avg_duration DESC

-- 166 R+T (qg/schema)
SELECT depth, COUNT(*) as span_count, AVG(duration_ms) as avg_duration, MIN(duration_ms) as min_duration, MAX(duration_ms) as max_duration FROM (SELECT begin_events.depth, ⟨DUR⟩ as duration_ms ⟨PAIR⟩) GROUP BY depth ORDER BY depth

-- 167 T (qg/schema)
SELECT name, depth, COUNT(*) as nested_count FROM view_instance('async_events', 'my_process_123') WHERE depth > 0 AND event_type = 'begin' GROUP BY name, depth HAVING COUNT(*) > 5 ORDER BY nested_count DESC, depth DESC

-- 168 T (qg/schema)
-- note: abridged
SELECT parent.name, child.name, COUNT(*) AS n FROM view_instance('async_events', 'my_process_123') parent JOIN view_instance('async_events', 'my_process_123') child ON parent.span_id = child.parent_span_id WHERE parent.event_type = 'begin' AND child.event_type = 'begin' GROUP BY parent.name, child.name ORDER BY n DESC

-- 169 T (qg/schema)
SELECT name, depth, COUNT(*) as deep_operation_count FROM view_instance('async_events', 'my_process_123') WHERE depth >= 3 AND event_type = 'begin' GROUP BY name, depth ORDER BY depth DESC, deep_operation_count DESC

-- 170 T (qg/schema)
-- with: 12345 => 31
SELECT time, event_type, name, span_id, parent_span_id, depth FROM view_instance('async_events', 'my_process_123') WHERE span_id = 12345 ORDER BY time

-- 171 T (qg/schema)
-- with: '127.0.0.1:7777' => ''
SELECT span_id AS id, parent_span_id AS parent, name, depth, begin_bits AS begin, end_bits AS end, bit_size, kind, connection_name, is_outgoing FROM view_instance('net_spans', '<process_id>') WHERE connection_name = '127.0.0.1:7777' AND is_outgoing = false

-- 172 T (qg/schema)
SELECT name, connection_name, SUM(bit_size) AS total_bits FROM view_instance('net_spans', '<process_id>') WHERE kind = 'property' GROUP BY name, connection_name ORDER BY total_bits DESC LIMIT 10

-- 173 T (qg/schema)
-- empty: the recorded trace has no outgoing connection
SELECT connection_name, SUM(bit_size) AS bits FROM view_instance('net_spans', '<process_id>') WHERE kind = 'connection' AND is_outgoing = true GROUP BY connection_name ORDER BY bits DESC

-- 174 M+T (qg/schema)
-- with: 0123456789abcdef0123456789abcdef => f063156c1447d44d363011e1981a3591
SELECT name, kind, status, duration, encode(span_id, 'hex') AS span, encode(parent_span_id, 'hex') AS parent FROM view_instance('otel_spans', '<process_id>') WHERE trace_id = decode('0123456789abcdef0123456789abcdef', 'hex') ORDER BY start_time

-- 175 T (qg/schema)
SELECT name, AVG(duration) AS avg_ns, COUNT(*) AS calls FROM view_instance('otel_spans', '<process_id>') WHERE kind = 'SERVER' GROUP BY name ORDER BY avg_ns DESC LIMIT 10

-- 176 M+T (qg/schema)
SELECT name, jsonb_as_string(jsonb_get(properties, 'otel.scope.name')) AS library, status_message FROM view_instance('otel_spans', '<process_id>') WHERE status = 'ERROR' ORDER BY start_time DESC

-- 177 M+T (qg/schema)
SELECT COUNT(*) AS span_count FROM view_instance('otel_spans', '<process_id>') WHERE jsonb_as_string(jsonb_get(properties, 'otel.scope.name')) = 'opentelemetry.instrumentation.requests'

-- 178 T (qg/schema)
SELECT time, name, format, payload_size FROM view_instance('images', '<process_id>') ORDER BY time DESC

-- 179 N (unreal/network-tracing)
SELECT process_id, tags, properties FROM streams WHERE array_has(tags, 'net') ORDER BY insert_time DESC LIMIT 5

-- 180 N (unreal/network-tracing)
SELECT time, name, value, properties FROM measures WHERE name IN ('net.packet_sent_bits', 'net.packet_received_bits') ORDER BY time DESC LIMIT 20

-- 181 N (unreal/network-tracing)
SELECT block_id, stream_id, "processes.exe", begin_time, end_time, nb_objects, payload_size, "streams.tags" FROM blocks WHERE array_has("streams.tags", 'net') ORDER BY end_time DESC LIMIT 5

-- 182 M+T (unreal/network-tracing)
-- with: <block_id> => {net_block}
-- count: 80
SELECT object_index, type_name, jsonb_format_json(value) AS event FROM parse_block('<block_id>') LIMIT 1000

-- 183 T (unreal/network-tracing)
-- with: <block_id> => {thread_block}
-- rows: [["BeginThreadSpanEvent"], ["EndThreadSpanEvent"]]
SELECT DISTINCT type_name FROM parse_block('<block_id>')

-- 184 M+T (unreal/network-tracing)
-- note: numbers → NULL by design
-- with: <block_id> => {net_block}
-- columns: object_index, type_name, connection_name, is_outgoing, bit_size
SELECT object_index, type_name, jsonb_as_string(jsonb_get(value, 'connection_name')) AS connection_name, jsonb_as_string(jsonb_get(value, 'is_outgoing')) AS is_outgoing, jsonb_as_string(jsonb_get(value, 'bit_size')) AS bit_size FROM parse_block('<block_id>') WHERE type_name IN ('NetConnectionBeginEvent', 'NetConnectionEndEvent') ORDER BY object_index

-- 185 T (unreal/network-tracing)
SELECT name, sum(bit_size) AS bits FROM view_instance('net_spans', '<process_id>') WHERE kind = 'object' AND depth = 1 GROUP BY name ORDER BY bits DESC LIMIT 20

-- 186 T (skill)
SELECT name, AVG(duration)/1e6 as avg_ms, COUNT(*) FROM process_spans('<process_id>', 'thread') GROUP BY name ORDER BY avg_ms DESC LIMIT 20

-- 187 R+T (perfetto plan)
-- note: internal query of the trace builder; bare `end`
-- with: begin <= TIMESTAMP '2024-01-01T00:00:00+00:00' => begin <= TIMESTAMP '2100-01-01T00:00:00+00:00' ;; end >= TIMESTAMP '2024-01-01T00:00:00+00:00' => end >= TIMESTAMP '2020-01-01T00:00:00+00:00'
SELECT "begin", "end", name, filename, target, line FROM view_instance('thread_spans', 's') WHERE begin <= TIMESTAMP '2024-01-01T00:00:00+00:00' AND end >= TIMESTAMP '2024-01-01T00:00:00+00:00' ORDER BY begin


-- === Web-app built-in and default queries ===

-- 188 N (wa:default cell table)
SELECT process_id, exe, start_time, last_update_time, username, computer FROM processes ORDER BY last_update_time DESC LIMIT 100

-- 189 M+T (wa:default cell propertytimeline)
WITH changes AS (SELECT time, jsonb_format_json(properties) as properties, LAG(jsonb_format_json(properties)) OVER (ORDER BY time) as prev_properties FROM view_instance('measures', '$process_id') WHERE name = 'cpu_usage') SELECT time, properties FROM changes WHERE properties IS DISTINCT FROM prev_properties ORDER BY time

-- 190 M (wa:default cell map)
-- near: time
SELECT NOW() as time, 0.0 as x, 0.0 as y, 0.0 as z

-- 191 R+M+T (wa:useMetricsData.ts METRICS_SQL)
-- note: aggregate first_value
SELECT date_bin(INTERVAL '$bin_interval', time) as time, max(value) as value, jsonb_format_json(first_value(properties) FILTER (WHERE properties IS NOT NULL)) as properties FROM view_instance('measures', '$process_id') WHERE name = '$measure_name' GROUP BY date_bin(INTERVAL '$bin_interval', time) ORDER BY time

-- 192 T (wa:ProcessLogPage.tsx DEFAULT_SQL)
SELECT time, level, target, msg FROM view_instance('log_entries', '$process_id') WHERE level <= $max_level $search_filter ORDER BY time DESC LIMIT $limit

-- 193 T (wa:ProcessMetricsPage.tsx DISCOVERY_SQL)
SELECT DISTINCT name, target, unit FROM view_instance('measures', '$process_id') ORDER BY name

-- 194 N (wa:ProcessPage.tsx PROCESS_SQL)
SELECT process_id, exe, start_time, last_update_time, computer, username, cpu_brand, distro FROM processes WHERE process_id = '$process_id' LIMIT 1

-- 195 N (wa:ProcessPage.tsx STATISTICS_SQL)
SELECT SUM(CASE WHEN array_has("streams.tags", 'log') THEN nb_objects ELSE 0 END) as log_entries, SUM(CASE WHEN array_has("streams.tags", 'metrics') THEN nb_objects ELSE 0 END) as measures, SUM(CASE WHEN array_has("streams.tags", 'cpu') THEN nb_objects ELSE 0 END) as trace_events, COUNT(DISTINCT CASE WHEN array_has("streams.tags", 'cpu') THEN stream_id ELSE NULL END) as thread_count FROM blocks WHERE process_id = '$process_id'

-- 196 M (wa:ProcessPage.tsx PROPERTIES_SQL)
SELECT jsonb_format_json(properties) as properties FROM processes WHERE process_id = '$process_id' LIMIT 1

-- 197 N (wa:ProcessesPage.tsx DEFAULT_SQL)
SELECT process_id, start_time, last_update_time, exe, computer, username FROM processes WHERE 1=1 $search_filter ORDER BY $order_by LIMIT 100

-- 198 R+M (wa:queries.ts THREAD_COVERAGE_SQL)
-- model: SELECT stream_id, concat(property_get("streams.properties", 'thread-name'), '-', property_get("streams.properties", 'thread-id')) as thread_name, begin_time, end_time FROM blocks WHERE process_id = '$process_id' AND array_has("streams.tags", 'cpu') ORDER BY stream_id, begin_time
SELECT arrow_cast(stream_id, 'Utf8') as stream_id, concat(arrow_cast(property_get("streams.properties", 'thread-name'), 'Utf8'), '-', arrow_cast(property_get("streams.properties", 'thread-id'), 'Utf8')) as thread_name, begin_time, end_time FROM blocks WHERE process_id = '$process_id' AND array_has("streams.tags", 'cpu') ORDER BY stream_id, begin_time

-- 199 N (wa:queries.ts TRACE_EVENTS_COUNT_SQL)
SELECT SUM(nb_objects) as event_count FROM blocks WHERE process_id = '$process_id' AND array_has("streams.tags", 'cpu')

-- 200 T (nb/cell-types)
SELECT id, parent, name, begin, "end", depth, thread_name AS lane FROM process_spans('$process_id', 'both') ORDER BY lane, begin

-- 201 R+M (nb/cell-types)
-- model: SELECT stream_id as id, concat(property_get("streams.properties", 'thread-name'), '-', property_get("streams.properties", 'thread-id')) as name, begin_time as begin, end_time as end FROM blocks WHERE process_id = '$process_id' AND array_has("streams.tags", 'cpu') ORDER BY name, begin
SELECT arrow_cast(stream_id, 'Utf8') as id, concat(arrow_cast(property_get("streams.properties", 'thread-name'), 'Utf8'), '-', arrow_cast(property_get("streams.properties", 'thread-id'), 'Utf8')) as name, begin_time as begin, end_time as end FROM blocks WHERE process_id = '$process_id' AND array_has("streams.tags", 'cpu') ORDER BY name, begin

-- 202 N (nb/cell-types)
SELECT process_id, exe, start_time, username, computer FROM processes ORDER BY $order_by LIMIT 100

-- 203 M (nb/execution)
SELECT date_bin('$bin_interval', time) as time, avg(value) as value FROM measures WHERE name = '$metric' GROUP BY 1 ORDER BY 1

-- 204 N (nb/variables)
SELECT time, value FROM measures WHERE name = '$metric.name' ORDER BY time

-- 205 T (nb/variables)
SELECT time, level, target, msg FROM view_instance('log_entries', '$game_session[0].process_id') ORDER BY time DESC LIMIT 100


-- === Grafana ===

-- 206 N (grafana/usage)
SELECT time, msg FROM log_entries WHERE exe = '$process'

-- 207 N (grafana/usage)
SELECT time, msg FROM log_entries WHERE exe IN ($processes)

-- 208 N (grafana/usage)
-- note: plugin-expanded
SELECT time, msg FROM log_entries WHERE $__timeFilter(time)

-- 209 N (grafana/usage)
-- note: plugin-expanded
SELECT COUNT(*) FROM log_entries WHERE time >= $__timeFrom()

-- 210 M (grafana dateBin)
SELECT date_bin(interval '10 second', time, timestamp '1970-01-01T00:00:00Z') as time_binned, avg(value) FROM measures GROUP BY 1

-- 211 N (grafana timeGroup)
SELECT datepart('minute', time),datepart('hour', time),datepart('day', time),datepart('month', time),datepart('year', time), count(*) FROM measures GROUP BY 1,2,3,4,5


-- === Python client and its integration tests ===

-- 212 N (t:async_events)
SELECT processes.process_id, processes.start_time FROM processes WHERE exe LIKE '%generator%' ORDER BY start_time DESC LIMIT 1

-- 213 T (t:async_events)
SELECT ae.name, ae.event_type, ae.time, ae.stream_id, p.exe, p.username, p.computer FROM view_instance('async_events', 'p') ae JOIN streams s ON ae.stream_id = s.stream_id JOIN processes p ON s.process_id = p.process_id ORDER BY ae.time LIMIT 5

-- 214 T (t:async_events)
SELECT parent.name as parent_name, child.name as child_name, parent.span_id as parent_id, child.parent_span_id, parent.stream_id as parent_stream, child.stream_id as child_stream FROM view_instance('async_events', 'p') parent JOIN view_instance('async_events', 'p') child ON parent.span_id = child.parent_span_id WHERE parent.event_type = 'begin' AND child.event_type = 'begin' LIMIT 5

-- 215 R+T (t:async_events)
SELECT begin_events.name, begin_events.stream_id, ⟨DUR⟩ as duration_ms ⟨PAIR⟩ ORDER BY duration_ms DESC LIMIT 10

-- 216 T (t:async_events)
SELECT DISTINCT stream_id, COUNT(*) as event_count FROM view_instance('async_events', 'p') WHERE event_type = 'begin' GROUP BY stream_id ORDER BY event_count DESC

-- 217 T (t:async_events)
-- with: 'p' => '{generator}'
SELECT name, event_type, span_id, time, stream_id FROM view_instance('async_events', 'p') WHERE name IN ('database_migration', 'cache_warmup', 'data_processing', 'user_workflow', 'user_validation', 'user_processing', 'batch_processing_operation', 'stream_processing_operation', 'real_time_processing_operation') ORDER BY time, name

-- 218 T (t:async_events_depth)
SELECT parent.span_id as parent_id, parent.depth as parent_depth, child.span_id as child_id, child.depth as child_depth, parent.name as parent_name, child.name as child_name FROM view_instance('async_events', 'p') parent JOIN view_instance('async_events', 'p') child ON parent.span_id = child.parent_span_id WHERE parent.event_type = 'begin' AND child.event_type = 'begin' ORDER BY parent.depth, child.depth LIMIT 20

-- 219 R+T (t:async_events_depth)
SELECT name, AVG(duration_ms) as avg_duration, COUNT(*) as count, depth FROM (SELECT begin_events.name, begin_events.depth, ⟨DUR⟩ as duration_ms ⟨PAIR⟩) WHERE depth < 3 GROUP BY name, depth ORDER BY avg_duration DESC

-- 220 T (t:async_events_depth)
SELECT MIN(depth) as min_depth, MAX(depth) as max_depth, AVG(depth) as avg_depth, COUNT(DISTINCT depth) as unique_depths FROM view_instance('async_events', 'p') WHERE event_type = 'begin'

-- 221 M (t:blocks)
-- model: SELECT block_id, 'Dictionary(Int32, Binary)' AS streams_props_type, 'Dictionary(Int32, Binary)' AS processes_props_type FROM blocks WHERE "streams.properties" IS NOT NULL LIMIT 5
SELECT block_id, arrow_typeof("streams.properties") as streams_props_type, arrow_typeof("processes.properties") as processes_props_type FROM blocks WHERE "streams.properties" IS NOT NULL LIMIT 5

-- 222 M (t:blocks)
-- model: SELECT block_id, property_get("streams.properties", 'test_key') as stream_prop, property_get("processes.properties", 'build-version') as process_prop, 'Dictionary(Int32, Utf8)' as prop_type FROM blocks LIMIT 5
SELECT block_id, property_get("streams.properties", 'test_key') as stream_prop, property_get("processes.properties", 'build-version') as process_prop, arrow_typeof(property_get("processes.properties", 'build-version')) as prop_type FROM blocks WHERE "processes.properties" IS NOT NULL LIMIT 5

-- 223 M (t:blocks)
-- model: SELECT block_id, "streams.properties" as jsonb_streams, 'Dictionary(Int32, Binary)' as jsonb_type FROM blocks LIMIT 3
SELECT block_id, properties_to_jsonb("streams.properties") as jsonb_streams, arrow_typeof(properties_to_jsonb("streams.properties")) as jsonb_type FROM blocks WHERE "streams.properties" IS NOT NULL LIMIT 3

-- 224 N (t:blocks)
SELECT COUNT(*) as total_blocks, COUNT("streams.properties") as blocks_with_stream_props, COUNT("processes.properties") as blocks_with_process_props, COUNT(CASE WHEN "streams.properties" IS NOT NULL AND "processes.properties" IS NOT NULL THEN 1 END) as blocks_with_both_props FROM blocks

-- 225 M (t:histo)
-- with: name='n' => name='cpu_usage'
SELECT bin_center, count FROM expand_histogram((SELECT make_histogram(0.0, 100.0, 10, value) FROM measures WHERE process_id='p' AND name='n'))

-- 226 N (t:histo)
select name, process_id from measures LIMIT 1

-- 227 M (t:histo)
-- note: one struct column
-- with: name='n' => name='cpu_usage'
select make_histogram(0.0, 100.0, 1000, value) from measures where process_id='p' AND name='n'

-- 228 M (t:jsonb)
-- note: compat bytes in §2.1
-- rows: [["{\"name\":\"value\"}"]]
SELECT jsonb_parse('{ "name" : "value" }') as json_bin

-- 229 M (t:jsonb)
-- note: → NULL
-- rows: [[null]]
SELECT jsonb_parse('{ not json... }') as json_bin

-- 230 M (t:jsonb)
-- note: → `{"name":"value"}`
-- rows: [["{\"name\":\"value\"}"]]
SELECT jsonb_format_json(jsonb_parse('{ "name" : "value" }')) as json_string

-- 231 M (t:jsonb)
-- note: → NULL
-- rows: [[null]]
SELECT jsonb_format_json(jsonb_parse('{ test }')) as json_string

-- 232 M (t:jsonb)
-- note: → `"value"`
-- rows: [["\"value\""]]
SELECT jsonb_format_json(jsonb_get(jsonb_parse('{ "name" : "value" }'), 'name')) as value

-- 233 M (t:jsonb)
-- note: → `value`
-- rows: [["value"]]
SELECT jsonb_as_string(jsonb_get(jsonb_parse('{ "name" : "value" }'), 'name')) as value

-- 234 M (t:jsonb)
-- note: → 2.3
-- rows: [[2.3]]
SELECT jsonb_as_f64(jsonb_get(jsonb_parse('{ "name" : 2.3 }'), 'name')) as value

-- 235 M (t:jsonb)
-- note: → 321321321321
-- rows: [[321321321321]]
SELECT jsonb_as_i64(jsonb_get(jsonb_parse('{ "name" : 321321321321 }'), 'name')) as value

-- 236 N (t:log_stats_integration)
SELECT time_bin, process_id, level, target, count FROM log_stats ORDER BY time_bin DESC, count DESC LIMIT 50

-- 237 N (t:log_stats_integration)
SELECT time_bin, sum(count) as total_count FROM log_stats GROUP BY time_bin ORDER BY time_bin

-- 238 N (t:log_stats_integration)
-- with: {sample_target} => chatty
SELECT time_bin, level, count FROM log_stats WHERE process_id = '{sample_process}' AND target = '{sample_target}' ORDER BY time_bin LIMIT 100

-- 239 N (t:log_stats_integration)
SELECT time_bin, level, sum(count) as total_count FROM log_stats GROUP BY time_bin, level ORDER BY time_bin, level

-- 240 N (t:net_spans)
SELECT DISTINCT p.process_id, p.start_time FROM processes p JOIN streams s ON s.process_id = p.process_id WHERE array_has(s.tags, 'net') ORDER BY p.start_time DESC LIMIT 1

-- 241 T (t:net_spans)
SELECT process_id, stream_id, span_id, parent_span_id, depth, kind, name, connection_name, is_outgoing, begin_bits, end_bits, bit_size, begin_time, end_time FROM view_instance('net_spans', 'p') ORDER BY begin_time LIMIT 50

-- 242 T (t:net_spans)
WITH spans AS (SELECT span_id, parent_span_id, kind, bit_size FROM view_instance('net_spans', 'p')) SELECT p.span_id AS conn_span_id, p.bit_size AS parent_bits, COALESCE(SUM(c.bit_size), 0) AS child_bits FROM spans p LEFT JOIN spans c ON c.parent_span_id = p.span_id WHERE p.kind = 'connection' GROUP BY p.span_id, p.bit_size LIMIT 100

-- 243 N (t:prepared_statement)
-- note: column name `count(*)`, int64 non-null
select count(*) from log_entries

-- 244 M (t:processes)
-- model: SELECT property_get(properties, 'build-version') as version, 'Dictionary(Int32, Utf8)' as version_type FROM processes WHERE properties_length(properties) > 0 LIMIT 10
SELECT property_get(properties, 'build-version') as version, arrow_typeof(property_get(properties, 'build-version')) as version_type FROM processes WHERE properties_length(properties) > 0 LIMIT 10

-- 245 M (t:processes)
SELECT property_get(properties, 'build-version') as version, property_get(properties, 'platform') as platform, property_get(properties, 'target') as target FROM processes WHERE properties_length(properties) > 0 LIMIT 100

-- 246 N (t:processes)
-- with: IS NOT NULL => IS NOT NULL AND exe <> 'checkout'
SELECT last_block_end_ticks, last_block_end_time FROM processes WHERE last_block_end_ticks IS NOT NULL LIMIT 5

-- 247 N (t:queries)
SELECT processes.process_id, stream_id, cpu_brand FROM streams, processes WHERE streams.process_id = processes.process_id ORDER BY streams.insert_time LIMIT 10

-- 248 N (t:queries)
SELECT stream_id, "streams.tags", nb_objects FROM blocks WHERE array_has("streams.tags", 'cpu') ORDER BY nb_objects DESC LIMIT 1

-- 249 T (t:queries)
SELECT target, name, duration, begin, "end" FROM view_instance('thread_spans', 's') ORDER by duration DESC LIMIT 10

-- 250 N (t:utils)
SELECT b.process_id, MIN(b."processes.exe") as exe, MIN(b.begin_time) as start_time, MAX(b.end_time) as end_time, COUNT(DISTINCT b.stream_id) as stream_count, COUNT(DISTINCT b.block_id) as block_count, SUM(b.nb_objects) as total_objects FROM blocks b WHERE b."processes.exe" LIKE '%telemetry-generator%' GROUP BY b.process_id HAVING COUNT(DISTINCT b.block_id) > 0 ORDER BY MAX(b.end_time) DESC LIMIT 1

-- 251 N (t:utils)
SELECT COUNT(*) as count FROM streams WHERE process_id = 'p' AND array_has(tags, 'cpu') LIMIT 1


-- === Must fail, pseudo-queries and doc defects ===

-- 252 X (admin/functions)
-- note: doc bug: ambiguous `view_set_name`; must raise
-- error: retire_partition_by_metadata
SELECT view_set_name, view_instance_id, retire_partition_by_metadata(view_set_name, view_instance_id, begin_insert_time, end_insert_time) as result FROM list_partitions() p JOIN list_view_sets() vs ON p.view_set_name = vs.view_set_name WHERE p.file_schema_hash != vs.current_schema_hash LIMIT 10

-- 253 X (blender/index)
-- note: doc bug: table is `measures`
-- error: unknown table 'metrics'
SELECT date_trunc('day', time) AS day, avg(value) AS avg_render_s FROM metrics WHERE name = 'blender.render_duration_s' GROUP BY 1 ORDER BY 1 DESC

-- 254 X (qg/async)
-- note: doc bug: outer query uses names not produced by the derived table; must raise
-- error: Referenced table "parent" not found
SELECT parent.name, child.name, COUNT(*) AS n FROM (SELECT p.name, p.span_id, p.depth, p.time, c.name, c.span_id, c.depth, c.time FROM view_instance('async_events', 'my_process') p JOIN view_instance('async_events', 'my_process') c ON p.span_id = c.parent_span_id) relationships(parent_name, parent_id, parent_depth, parent_time, child_name, child_id, child_depth, child_time) GROUP BY parent.name, child.name

-- 255 X (qg/functions)
-- note: pseudo-query (`data` column)
-- error: column "data" not found
SELECT jsonb_as_string(jsonb_path_query_first(data, '$.tags[0]')) as first_tag FROM processes

-- 256 X (qg/functions)
-- note: doc defect: no source for `msg_jsonb` (arguments are not lateral); valid when wrapped in a sub-query
-- error: column "msg_jsonb"
SELECT jsonb_as_string(jsonb_get(value, 'name')) as player_name FROM jsonb_array_elements(jsonb_path_query(msg_jsonb, '$.teams[*].players[*] ? (@.type == "human")'))

-- 257 X (qg/functions)
-- note: pseudo-query
-- error: column "jsonb_subquery"
SELECT key, value FROM jsonb_each(jsonb_subquery)

-- 258 X (qg/functions)
-- note: doc bug: `max_value` not a column
-- error: column "max_value" not found
SELECT rgba(value / max_value, 0.0, 1.0 - value / max_value, 1.0) AS color FROM measures

-- 259 X (qg/schema)
-- note: doc bug: no global `images`
-- error: unknown table 'images': .*view_instance\('images', '<id>'\)
SELECT process_id, exe, COUNT(*) AS image_count FROM images WHERE time >= NOW() - INTERVAL '1 hour' GROUP BY process_id, exe ORDER BY image_count DESC

-- 260 X (unreal/examples)
-- note: named argument; must raise
-- error: named parameters are not supported|takes its arguments by position
SELECT time, name, format, payload_size FROM view_instance('images', process_id => $process_id) ORDER BY time DESC LIMIT 20

-- 261 X (t:async_events)
-- note: must raise: no global instance
-- error: unknown table 'async_events'.*view_instance\('async_events', '<id>'\)
SELECT COUNT(*) FROM async_events

-- 262 X (t:log_stats_integration)
-- note: must raise
-- error: column "invalid_column" not found
SELECT invalid_column FROM log_stats LIMIT 1

-- 263 X (t:log_stats_integration)
-- note: must raise
-- error: 'invalid-timestamp' is not a timestamp
SELECT * FROM log_stats WHERE time_bin >= 'invalid-timestamp'

-- 264 X (t:net_spans)
-- note: must raise
-- error: the global view is not implemented for net_spans
SELECT COUNT(*) FROM view_instance('net_spans', 'global')

-- 265 X (t:perfetto_integration)
-- note: must raise: span types message
-- error: span_types must be
SELECT chunk_id, chunk_data FROM perfetto_trace_chunks('any-process-id', 'invalid-span-type', TIMESTAMP '2024-01-01T00:00:00Z', TIMESTAMP '2024-01-01T01:00:00Z')

-- 266 X (t:perfetto_integration)
-- note: must raise: Third argument
-- error: [Tt]hird argument
SELECT chunk_id, chunk_data FROM perfetto_trace_chunks('process-id', 'both')

-- 267 X (t:perfetto_integration)
-- note: must raise: Process … not found
-- error: Process .* not found|process .* not found|valid UUID
SELECT chunk_id, chunk_data FROM perfetto_trace_chunks('non-existent-process-id', 'both', TIMESTAMP '2024-01-01T00:00:00Z', TIMESTAMP '2024-01-01T01:00:00Z')
