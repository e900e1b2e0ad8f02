-- What the rows of every meter's own readings add up to, of some sessions, and the decisions on its price: its
-- rows in runs of the same operation and prices, but for readings that go on with the prices before them. A
-- run is told as its last rows have it.
WITH placed AS (
    SELECT
        *,
        row_number() OVER meter = 1
        OR operation IS DISTINCT FROM lag(operation) OVER meter
        OR price_id IS DISTINCT FROM lag(price_id) OVER meter AS is_other
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
),
parted AS (
    SELECT
        *,
        sum(is_other::BIGINT) OVER (
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
        ) AS part
    FROM placed
),
runs AS (
    SELECT
        project,
        session_id,
        agent_label,
        modality,
        provider,
        model,
        estimated,
        size_tier,
        service_tier,
        part,
        min(first_place) AS began,
        any_value(operation) AS operation,
        any_value(price_id) AS price_id,
        arg_max(unpriced_reason, last_place) AS unpriced_reason,
        sum(priced_meters) AS priced_meters,
        sum(reported_cost) AS reported_cost,
        sum(cost) AS cost,
        sum(list_cost) AS list_cost,
        sum(requests) AS requests,
        sum(large_requests) AS large_requests,
        sum(input_tokens) AS input_tokens,
        sum(cache_read_input_tokens) AS cache_read_input_tokens,
        sum(cache_creation_input_tokens) AS cache_creation_input_tokens,
        sum(text_input_tokens) AS text_input_tokens,
        sum(audio_input_tokens) AS audio_input_tokens,
        sum(image_input_tokens) AS image_input_tokens,
        sum(text_cache_read_input_tokens) AS text_cache_read_input_tokens,
        sum(audio_cache_read_input_tokens) AS audio_cache_read_input_tokens,
        sum(image_cache_read_input_tokens) AS image_cache_read_input_tokens,
        sum(output_tokens) AS output_tokens,
        sum(reasoning_output_tokens) AS reasoning_output_tokens,
        sum(text_output_tokens) AS text_output_tokens,
        sum(audio_output_tokens) AS audio_output_tokens,
        sum(image_output_tokens) AS image_output_tokens,
        sum(characters) AS characters,
        sum(audio_us) AS audio_us,
        sum(session_us) AS session_us,
        sum(other_tokens) AS other_tokens
    FROM parted
    GROUP BY
        project,
        session_id,
        agent_label,
        modality,
        provider,
        model,
        estimated,
        size_tier,
        service_tier,
        part
),
followed AS (
    SELECT
        *,
        lag(price_id) OVER (
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
            ORDER BY part
        ) AS price_before,
        sum(priced_meters) OVER (
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
            ORDER BY part
        ) > 0 AS has_cost
    FROM runs
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
    list(
        [operation::VARCHAR, price_id::VARCHAR, unpriced_reason, has_cost::VARCHAR, began::VARCHAR]
        ORDER BY part
    ) FILTER (operation IS NOT NULL OR part = 1 OR price_id IS DISTINCT FROM price_before),
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
FROM followed
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
