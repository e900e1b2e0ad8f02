-- What is known of some sessions: whose each one is, whether it has started and under which labels,
-- and the highest number under which it ended (else 0). Several rows a session.
SELECT project, session_id::VARCHAR, agent_id, tenant, producer_id, FALSE AS started, 0 AS ended,
    NULL AS labels
FROM session_identities
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
UNION ALL
SELECT project, session_id::VARCHAR, NULL, NULL, NULL, TRUE, 0, labels
FROM session_starts
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
UNION ALL
SELECT project, session_id::VARCHAR, NULL, NULL, NULL, FALSE, max(number), NULL
FROM session_ends
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
GROUP BY project, session_id;
