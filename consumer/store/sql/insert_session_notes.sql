-- Notes of sessions, one JSON object a line; each (session, number, reason, producer) once. A reading
-- that has a row of its own by now has moved something: it came again, which is not worth a note.
INSERT INTO session_notes
SELECT
    entry.session_id,
    entry.number,
    entry.reason,
    make_timestamp(any_value(entry.occurred_at)),
    max(entry.at_most::DECIMAL(18, 9)),
    entry.producer_id,
    entry.project,
    make_timestamp($received_at)
FROM (
    SELECT from_json(line, '{
        "project": "VARCHAR",
        "session_id": "UUID",
        "number": "BIGINT",
        "reason": "VARCHAR",
        "occurred_at": "BIGINT",
        "at_most": "VARCHAR",
        "producer_id": "VARCHAR"
    }') AS entry
    FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
)
WHERE NOT EXISTS (
    SELECT 1
    FROM session_notes AS known
    WHERE known.session_id = entry.session_id
        AND known.project = entry.project
        AND known.number = entry.number
        AND known.reason = entry.reason
        AND known.producer_id IN (entry.producer_id, '')  -- '': an older version could not tell
)
AND NOT EXISTS (
    SELECT 1
    FROM bookings AS booked
    WHERE booked.session_id BETWEEN $first_id::UUID AND $last_id::UUID
        AND booked.session_id = entry.session_id
        AND booked.project = entry.project
        AND booked.number = entry.number
        AND entry.reason = 'nothing_new'
)
AND NOT EXISTS (
    SELECT 1
    FROM session_readings AS folded
    WHERE folded.session_id BETWEEN $first_id::UUID AND $last_id::UUID
        AND folded.session_id = entry.session_id
        AND folded.project = entry.project
        AND entry.number BETWEEN folded.first_number AND folded.last_number
        AND entry.reason = 'nothing_new'
)
GROUP BY entry.project, entry.session_id, entry.number, entry.reason, entry.producer_id;
