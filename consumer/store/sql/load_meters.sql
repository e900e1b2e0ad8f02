-- What the ledger holds for every meter of some sessions. Session ids rise with time, as do the
-- rows, so the range skips all but the newest part of the table.
SELECT
    session_id::VARCHAR,
    agent_id,
    agent_label,
    modality,
    provider,
    model,
    estimated,
    size_tier,
    service_tier,
    max(number),
    coalesce(sum(cost), 0::DECIMAL(18, 9)),
    coalesce(sum(reported_cost), 0::DECIMAL(18, 9)),
    sum(requests),
    sum(large_requests),
    sum(input_tokens),
    sum(cache_read_input_tokens),
    sum(cache_creation_input_tokens),
    sum(text_input_tokens),
    sum(audio_input_tokens),
    sum(image_input_tokens),
    sum(text_cache_read_input_tokens),
    sum(audio_cache_read_input_tokens),
    sum(image_cache_read_input_tokens),
    sum(output_tokens),
    sum(reasoning_output_tokens),
    sum(text_output_tokens),
    sum(audio_output_tokens),
    sum(image_output_tokens),
    sum(characters),
    sum(audio_us),
    sum(session_us),
    sum(other_tokens)
FROM bookings
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
GROUP BY session_id, agent_id, agent_label, modality, provider, model, estimated, size_tier, service_tier;
