-- SessionEnded events with their producer, one JSON object a line, without the fields that have
-- their default value.
-- The caller has left out ends that a higher one has overtaken.
INSERT INTO session_ends
SELECT
    entry.session_id,
    entry.number,
    entry.project,
    entry.agent_id,
    entry.tenant,
    make_timestamp(entry.ended_at),
    entry.status,
    coalesce(entry.reason, ''),
    len(entry.meters),
    entry.readings,
    coalesce(entry.coalesced, 0),
    coalesce(entry.unmeasured, 0),
    producer_id,
    make_timestamp($received_at),
    nullif(entry.outcome.result, ''),
    CASE WHEN entry.outcome IS NOT NULL THEN coalesce(entry.outcome.tags, '[]') END,
    CASE WHEN entry.outcome IS NOT NULL THEN coalesce(entry.outcome.tags_cut, 0) END,
    entry.outcome.user_turns,
    entry.outcome.preempted
FROM (
    SELECT row."end" AS entry, row.producer_id AS producer_id
    FROM (
        SELECT from_json(line, '{"producer_id": "VARCHAR", "end": {
            "session_id": "UUID",
            "number": "BIGINT",
            "project": "VARCHAR",
            "agent_id": "VARCHAR",
            "tenant": "VARCHAR",
            "ended_at": "BIGINT",
            "status": "VARCHAR",
            "reason": "VARCHAR",
            "meters": ["JSON"],
            "readings": "BIGINT",
            "coalesced": "BIGINT",
            "unmeasured": "BIGINT",
            "outcome": {
                "result": "VARCHAR",
                "tags": "JSON",
                "tags_cut": "BIGINT",
                "user_turns": "BIGINT",
                "preempted": "JSON"
            }
        }}') AS row
        FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
    )
);
