-- SessionStarted events with their producer, one JSON object a line, without the fields that have
-- their default value.
-- The caller has left out sessions that are known.
INSERT INTO session_starts
SELECT
    entry.session_id,
    entry.project,
    entry.agent_id,
    entry.tenant,
    make_timestamp(entry.started_at),
    coalesce(entry.job_id, ''),
    coalesce(entry.room_name, ''),
    coalesce(entry.room_sid, ''),
    coalesce(entry.worker_id, ''),
    coalesce(entry.deployment, ''),
    coalesce(entry.fake_job, FALSE),
    coalesce(entry.labels, '{}'),
    producer_id,
    make_timestamp($received_at)
FROM (
    SELECT row.start AS entry, row.producer_id AS producer_id
    FROM (
        SELECT from_json(line, '{"producer_id": "VARCHAR", "start": {
            "session_id": "UUID",
            "project": "VARCHAR",
            "agent_id": "VARCHAR",
            "tenant": "VARCHAR",
            "started_at": "BIGINT",
            "job_id": "VARCHAR",
            "room_name": "VARCHAR",
            "room_sid": "VARCHAR",
            "worker_id": "VARCHAR",
            "deployment": "VARCHAR",
            "fake_job": "BOOLEAN",
            "labels": "JSON"
        }}') AS row
        FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
    )
);
