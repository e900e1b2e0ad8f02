-- ProducerReport events, one JSON object a line, without the fields that have their default value.
-- Each (project, producer, number) once; reports are rare, so the whole table is looked through.
INSERT INTO producer_reports
SELECT
    entry.producer_id,
    entry.number,
    entry.project,
    make_timestamp(entry.reported_at),
    coalesce(entry.captured, 0),
    coalesce(entry.coalesced, 0),
    coalesce(entry.dropped, 0),
    coalesce(entry.unattributed, 0),
    coalesce(entry.outbox_rows, 0),
    coalesce(entry.outbox_bytes, 0),
    coalesce(entry.oldest_age_us, 0),
    coalesce(entry.unmeasured, 0),
    entry.unattributed_usage,
    make_timestamp($received_at),
    entry.live_sessions,
    entry.ended
FROM (
    SELECT from_json(line, '{
        "producer_id": "VARCHAR",
        "number": "BIGINT",
        "project": "VARCHAR",
        "reported_at": "BIGINT",
        "captured": "BIGINT",
        "coalesced": "BIGINT",
        "dropped": "BIGINT",
        "unattributed": "BIGINT",
        "outbox_rows": "BIGINT",
        "outbox_bytes": "BIGINT",
        "oldest_age_us": "BIGINT",
        "unmeasured": "BIGINT",
        "unattributed_usage": "JSON",
        "live_sessions": "BIGINT",
        "ended": "BOOLEAN"
    }') AS entry
    FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
)
WHERE NOT EXISTS (
    SELECT 1
    FROM producer_reports AS known
    WHERE known.project = entry.project
        AND known.producer_id = entry.producer_id
        AND known.number = entry.number
);
