-- The oldest sessions that are pending and may be settled: those that ended some time ago, and those of
-- which nothing came for so long that nobody waits for their end.
CREATE OR REPLACE TEMP TABLE settling AS
SELECT project, session_id
FROM pending_sessions
WHERE (project, session_id) IN (
    SELECT (project, session_id)
    FROM session_ends
    WHERE received_at IS NULL OR received_at <= make_timestamp($ended_before)
)
    OR make_timestamp(epoch_us(uuid_extract_timestamp(session_id))) <= make_timestamp($begun_before)
ORDER BY session_id, project
LIMIT $most;
