-- Dead letters, one JSON object a line; each place in the stream once. The payload is part of the
-- comparison: a stream that was made anew counts from one again and must not hide what it brings,
-- and what was in no stream has no place in one.
INSERT INTO dead_letters
SELECT
    make_timestamp($received_at),
    entry.subject,
    entry.sequence,
    entry.index,
    entry.reason,
    entry.detail,
    from_base64(entry.payload)
FROM (
    SELECT from_json(line, '{
        "subject": "VARCHAR",
        "sequence": "BIGINT",
        "index": "INTEGER",
        "reason": "VARCHAR",
        "detail": "VARCHAR",
        "payload": "VARCHAR"
    }') AS entry
    FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
)
WHERE NOT EXISTS (
    SELECT 1
    FROM dead_letters AS known
    WHERE known.stream_sequence BETWEEN $first_sequence AND $last_sequence
        AND known.stream_sequence = entry.sequence
        AND known.event_index = entry.index
        AND known.subject = entry.subject
        AND known.payload = from_base64(entry.payload)
);
