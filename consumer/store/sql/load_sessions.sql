-- What is known of some sessions: whose each one is, whether it has started and under which labels,
-- the highest number under which it ended, and which operation voided it (else 0). Several rows a session.
SELECT project, session_id::VARCHAR, agent_id, tenant, producer_id, FALSE AS started, 0 AS ended,
    NULL AS labels, 0 AS voided
FROM session_identities
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
UNION ALL
SELECT project, session_id::VARCHAR, NULL, NULL, NULL, TRUE, 0, labels, 0
FROM session_starts
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
UNION ALL
SELECT project, session_id::VARCHAR, NULL, NULL, NULL, FALSE, max(number), NULL, 0
FROM session_ends
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
GROUP BY project, session_id
UNION ALL
SELECT project, session_id::VARCHAR, NULL, NULL, NULL, FALSE, 0, NULL, operation
FROM void_marks
WHERE operation IS NOT NULL
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID);
