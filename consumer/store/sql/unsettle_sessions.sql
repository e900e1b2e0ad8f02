-- Take out what sessions came to, one JSON list of project and id a line: something came for them.
DELETE FROM settled_sessions
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    -- First by ids alone: few columns of many rows.
    AND session_id IN (
        SELECT (from_json(line, '["VARCHAR"]')[2])::UUID
        FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
    )
    AND (project, session_id) IN (
        SELECT (key[1], key[2]::UUID)
        FROM (
            SELECT from_json(line, '["VARCHAR"]') AS key
            FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
        )
    );
