-- Sessions that are not exactly once among the settled and the pending ones.
SELECT project, session_id::VARCHAR, sum(times)::BIGINT AS times
FROM (
    SELECT project, session_id, 0 AS times FROM session_identities
    UNION ALL
    SELECT project, session_id, 1 FROM settled_sessions
    UNION ALL
    SELECT project, session_id, 1 FROM pending_sessions
)
GROUP BY project, session_id
HAVING sum(times) <> 1
ORDER BY session_id
LIMIT $most
