-- Which of some sessions have started, and the highest number under which they ended (else 0).
SELECT session_id::VARCHAR, TRUE AS started, 0 AS ended
FROM session_starts
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
UNION ALL
SELECT session_id::VARCHAR, FALSE AS started, max(number) AS ended
FROM session_ends
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
GROUP BY session_id;
