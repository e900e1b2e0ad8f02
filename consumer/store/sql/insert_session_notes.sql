-- Notes of sessions, one JSON object a line; each (session, number, reason) once. A reading that has
-- a row of its own by now has moved something: it came again, which is not worth a note.
INSERT INTO session_notes
SELECT
    entry.session_id,
    entry.number,
    entry.reason,
    make_timestamp(any_value(entry.occurred_at)),
    any_value(entry.at_most)::DECIMAL(18, 9),
    any_value(entry.producer_id)
FROM (
    SELECT from_json(line, '{
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
        AND known.number = entry.number
        AND known.reason = entry.reason
)
AND NOT EXISTS (
    SELECT 1
    FROM bookings AS booked
    WHERE booked.session_id BETWEEN $first_id::UUID AND $last_id::UUID
        AND booked.session_id = entry.session_id
        AND booked.number = entry.number
        AND entry.reason = 'nothing_new'
)
GROUP BY entry.session_id, entry.number, entry.reason;
