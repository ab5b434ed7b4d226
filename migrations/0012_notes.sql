-- Notes of who has sent blocks are of the blocks that are seen: the latest end may have been that of a block that is gone.

-- They are taken once more, as of before the first. Until then whoever lists processes and streams reads all blocks.
DELETE FROM lakehouse_senders;
UPDATE lakehouse_notes SET looked_before = NULL, looked_except = '{}';

-- Who has no block any more that is seen is not listed, and of others the latest that is left counts. What retention deletes
-- was not seen before, so that nothing was noted of it. Nobody takes notes meanwhile: it could be of a block that goes here.
-- The loop is for the planner: it would read the blocks of all who lost one, and not only of those who lost the latest.
CREATE OR REPLACE FUNCTION lakehouse_senders_forget() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sender record;
BEGIN
    PERFORM FROM lakehouse_notes FOR UPDATE;
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM lakehouse_senders;
        RETURN NULL;
    END IF;
    DELETE FROM lakehouse_senders s
    USING (SELECT DISTINCT stream_id, process_id FROM gone) AS other
    WHERE (s.stream_id, s.process_id) = (other.stream_id, other.process_id)
        AND NOT EXISTS (
            SELECT
            FROM blocks b
            WHERE (b.stream_id, b.process_id) = (other.stream_id, other.process_id)
                AND b.insert_time >= lakehouse_kept_from()
        );
    FOR sender IN
        SELECT s.stream_id, s.process_id
        FROM (
            SELECT stream_id, process_id, max(insert_time) AS insert_time, max(end_ticks) AS end_ticks, max(end_time) AS end_time
            FROM gone
            WHERE insert_time >= lakehouse_kept_from()
            GROUP BY stream_id, process_id
        ) AS lost
        JOIN lakehouse_senders s USING (stream_id, process_id)
        WHERE lost.insert_time >= s.insert_time OR lost.end_ticks >= s.end_ticks OR lost.end_time >= s.end_time
    LOOP
        PERFORM lakehouse_note_again(sender.stream_id, sender.process_id);
    END LOOP;
    RETURN NULL;
END $$;

-- Of one who is noted, what the blocks say that are seen.
CREATE FUNCTION lakehouse_note_again(_stream uuid, _process uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE lakehouse_senders s SET insert_time = b.insert_time, end_ticks = b.end_ticks, end_time = b.end_time
    FROM (
        SELECT max(insert_time) AS insert_time, max(end_ticks) AS end_ticks, max(end_time) AS end_time
        FROM blocks
        WHERE stream_id = _stream AND process_id = _process AND insert_time >= lakehouse_kept_from()
    ) AS b
    WHERE s.stream_id = _stream AND s.process_id = _process AND b.insert_time IS NOT NULL
$$;
