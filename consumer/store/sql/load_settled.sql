-- What is kept of some sessions while they are settled. No condition on `kept`: it would be read of all.
SELECT project, session_id::VARCHAR, kept
FROM settled_sessions
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID);
