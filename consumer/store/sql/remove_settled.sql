-- Take from the pending sessions those that were settled just now.
DELETE FROM pending_sessions
WHERE (project, session_id) IN (
    SELECT (project, session_id) FROM settling SEMI JOIN settled_sessions USING (project, session_id)
);
