-- Sessions that something came for, one JSON list of project and id a line: they are not settled now.
INSERT INTO pending_sessions
SELECT project, session_id
FROM (
    SELECT DISTINCT key[1] AS project, key[2]::UUID AS session_id
    FROM (
        SELECT from_json(line, '["VARCHAR"]') AS key
        FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
    )
)
ANTI JOIN pending_sessions USING (project, session_id)
ORDER BY session_id, project;
