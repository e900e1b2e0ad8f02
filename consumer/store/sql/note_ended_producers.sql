-- The processes of these producers have ended, as their outboxes on this host tell. It is noted as their
-- report 0, which is the ledger's own (a producer counts from 1), where a session of theirs has no end.
INSERT INTO producer_reports (
    producer_id, number, project, reported_at, captured, coalesced, dropped, unattributed, outbox_rows,
    outbox_bytes, oldest_age_us, unmeasured, received_at, ended
)
SELECT
    session.producer_id,
    0,
    session.project,
    make_timestamp($noted_at),
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    make_timestamp($noted_at),
    TRUE
FROM session_identities AS session
ANTI JOIN session_ends USING (project, session_id)
WHERE session.producer_id IN (SELECT unnest($producers))
    AND NOT EXISTS (
        SELECT 1
        FROM producer_reports AS known
        WHERE known.project = session.project
            AND known.producer_id = session.producer_id
            AND known.number = 0
    )
GROUP BY session.project, session.producer_id;
