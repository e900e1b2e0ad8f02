-- Readings and ends that were refused and are booked now, one JSON object a line: takes back the notes
-- that they were refused, and that the books contradict such an end. What is still so of them is
-- noted again after this.
DELETE FROM session_notes
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND reason IN (SELECT unnest(string_split($reasons, chr(10))))
    AND (project, session_id, number, producer_id) IN (
        SELECT (entry.project, entry.session_id, entry.number, entry.producer_id)
        FROM (
            SELECT from_json(line, '{
                "project": "VARCHAR",
                "session_id": "UUID",
                "number": "BIGINT",
                "producer_id": "VARCHAR"
            }') AS entry
            FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
        )
    );
