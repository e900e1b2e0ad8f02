-- The sessions that are pending and may be settled: those that ended some time ago, then those without an end
-- that began so long ago that nobody waits for it; the oldest first.
CREATE OR REPLACE TEMP TABLE settling AS
SELECT project, session_id, row_number() OVER (ORDER BY has_ended DESC, session_id, project) AS turn
FROM (
    SELECT project, session_id, max(received_at) AS told_at, TRUE AS has_ended
    FROM session_ends
    SEMI JOIN pending_sessions USING (project, session_id)
    GROUP BY project, session_id
    UNION ALL
    SELECT project, session_id, NULL, FALSE
    FROM pending_sessions
    ANTI JOIN session_ends USING (project, session_id)
    WHERE make_timestamp(epoch_us(uuid_extract_timestamp(session_id)))
        <= make_timestamp($begun_before)
)
WHERE told_at IS NULL OR told_at <= make_timestamp($ended_before)
ORDER BY turn
LIMIT $most;
