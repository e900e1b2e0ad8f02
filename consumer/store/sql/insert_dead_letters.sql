-- Dead letters, one JSON object a line; their bytes are in files already. The caller has left out
-- those that are known.
INSERT INTO refused (
    received_at, subject, stream_sequence, event_index, reason, detail, payload,
    id, project, events, producer_id, batch_number, sha256, bytes, file, place
)
SELECT
    coalesce(make_timestamp(entry.received_at), make_timestamp($received_at)),
    entry.subject,
    entry.sequence,
    entry.index,
    entry.reason,
    entry.detail,
    NULL,
    entry.id,
    entry.project,
    entry.events,
    entry.producer_id,
    entry.batch_number,
    entry.sha256,
    entry.bytes,
    entry.file,
    entry.place
FROM (
    SELECT from_json(line, '{
        "received_at": "BIGINT",
        "subject": "VARCHAR",
        "sequence": "BIGINT",
        "index": "INTEGER",
        "reason": "VARCHAR",
        "detail": "VARCHAR",
        "id": "VARCHAR",
        "project": "VARCHAR",
        "events": "BIGINT",
        "producer_id": "VARCHAR",
        "batch_number": "BIGINT",
        "sha256": "VARCHAR",
        "bytes": "BIGINT",
        "file": "VARCHAR",
        "place": "BIGINT"
    }') AS entry
    FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
);
