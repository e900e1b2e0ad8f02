-- Whose a session is, one JSON object a line. The caller has left out sessions that are known.
INSERT INTO session_identities
SELECT
    entry.project,
    entry.session_id,
    coalesce(
        entry.day, make_timestamp(epoch_us(uuid_extract_timestamp(entry.session_id)))::DATE
    ),
    entry.agent_id,
    entry.tenant,
    entry.producer_id
FROM (
    SELECT from_json(line, '{
        "project": "VARCHAR",
        "session_id": "UUID",
        "agent_id": "VARCHAR",
        "tenant": "VARCHAR",
        "producer_id": "VARCHAR",
        "day": "DATE"
    }') AS entry
    FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
);
