-- What the rows of every meter's own readings add up to, of some sessions, and which rows of a meter were
-- the first to have a price: those of its readings that found another one, and those of operations.
WITH placed AS (
    SELECT
        *,
        row_number() OVER meter = 1 AS is_first,
        lag(price_id) OVER meter AS price_before
    FROM session_usage
    WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
        AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
    WINDOW meter AS (
        PARTITION BY
            project,
            session_id,
            agent_label,
            modality,
            provider,
            model,
            estimated,
            size_tier,
            service_tier
        ORDER BY first_place
    )
)
SELECT
    project,
    session_id::VARCHAR,
    agent_label,
    modality,
    provider,
    model,
    estimated,
    size_tier,
    service_tier,
    coalesce(sum(reported_cost) FILTER (operation IS NULL), 0::DECIMAL(18, 9)),
    coalesce(sum(cost) FILTER (operation IS NULL), 0::DECIMAL(18, 9)),
    coalesce(sum(list_cost) FILTER (operation IS NULL), 0::DECIMAL(18, 9)),
    coalesce(sum(billed) FILTER (operation IS NULL), 0::DECIMAL(18, 9)),
    list(
        [operation::VARCHAR, price_id::VARCHAR, unpriced_reason, (priced_rows > 0)::VARCHAR]
        ORDER BY first_place
    ) FILTER (operation IS NOT NULL OR is_first OR price_id IS DISTINCT FROM price_before),
    coalesce(sum(requests) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(large_requests) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(input_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(cache_read_input_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(cache_creation_input_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(text_input_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(audio_input_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(image_input_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(text_cache_read_input_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(audio_cache_read_input_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(image_cache_read_input_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(output_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(reasoning_output_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(text_output_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(audio_output_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(image_output_tokens) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(characters) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(audio_us) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(session_us) FILTER (operation IS NULL), 0)::BIGINT,
    coalesce(sum(other_tokens) FILTER (operation IS NULL), 0)::BIGINT
FROM placed
GROUP BY
    project,
    session_id,
    agent_label,
    modality,
    provider,
    model,
    estimated,
    size_tier,
    service_tier;
