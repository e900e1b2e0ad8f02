-- The settled sessions without an end of some producers, one JSON list of project and producer a line.
SELECT project, session_id::VARCHAR
FROM settled_sessions
WHERE ended_at IS NULL
    AND (project, session_id) IN (
        SELECT (project, session_id)
        FROM (
            SELECT project, session_id, producer_id FROM session_starts
            UNION ALL
            SELECT project, session_id, producer_id FROM session_notes
        )
        WHERE (project, producer_id) IN (
            SELECT (key[1], key[2])
            FROM (
                SELECT from_json(line, '["VARCHAR"]') AS key
                FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
            )
        )
    );
