-- The meters of some sessions whose price an operation decided, be it in force or not.
SELECT DISTINCT
    project,
    session_id::VARCHAR,
    agent_label,
    modality,
    provider,
    model,
    estimated,
    size_tier,
    service_tier
FROM session_usage
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
    AND operation IS NOT NULL;
