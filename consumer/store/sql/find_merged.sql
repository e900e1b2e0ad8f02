-- What the rows of `folded_usage` that belong to one run come to: those of a meter that follow each other and
-- agree in their day, in the operation that they belong to, in the prices that rated them and in how their provider is
-- written. They were folded at different times. Only of the sessions whose rows are sealed.
CREATE OR REPLACE TEMP TABLE merged_usage AS
WITH sealed AS (
    SELECT DISTINCT project, session_id
    FROM bookings
    WHERE day = $day AND place BETWEEN $first AND $last AND session_id IS NOT NULL
),
compared AS (
    SELECT
        *,
        lag(first_place) OVER meter IS NULL
        OR operation IS DISTINCT FROM lag(operation) OVER meter
        OR price_id IS DISTINCT FROM lag(price_id) OVER meter AS is_other
    FROM folded_usage
    SEMI JOIN sealed USING (project, session_id)
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
    FROM compared
)
SELECT
    project,
    session_id,
    day,
    agent_id,
    tenant,
    agent_label,
    modality,
    provider,
    model,
    estimated,
    size_tier,
    service_tier,
    operation,
    price_id,
    corrects,
    provider_raw,
    arg_max(currency, last_place) AS currency,
    arg_max_null(price_source, last_place) AS price_source,
    arg_max_null(price_version, last_place) AS price_version,
    arg_max_null(price_model, last_place) AS price_model,
    arg_max(unpriced_reason, last_place) AS unpriced_reason,
    arg_max_null(unbilled_reason, last_place) AS unbilled_reason,
    min(first_place) AS first_place,
    max(last_place) AS last_place,
    max(number) AS number,
    min(first_at) AS first_at,
    max(last_at) AS last_at,
    max(booked_at) AS booked_at,
    min(first_unpriced_at) AS first_unpriced_at,
    max(last_unpriced_at) AS last_unpriced_at,
    min(first_sequence) AS first_sequence,
    sum(sessions)::BIGINT AS sessions,
    sum(rows)::BIGINT AS rows,
    sum(unpriced_rows)::BIGINT AS unpriced_rows,
    sum(cost)::DECIMAL(18, 9) AS cost,
    sum(list_cost)::DECIMAL(18, 9) AS list_cost,
    sum(billed)::DECIMAL(18, 9) AS billed,
    sum(reported_cost)::DECIMAL(18, 9) AS reported_cost,
    sum(requests)::BIGINT AS requests,
    sum(large_requests)::BIGINT AS large_requests,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(cache_read_input_tokens)::BIGINT AS cache_read_input_tokens,
    sum(cache_creation_input_tokens)::BIGINT AS cache_creation_input_tokens,
    sum(text_input_tokens)::BIGINT AS text_input_tokens,
    sum(audio_input_tokens)::BIGINT AS audio_input_tokens,
    sum(image_input_tokens)::BIGINT AS image_input_tokens,
    sum(text_cache_read_input_tokens)::BIGINT AS text_cache_read_input_tokens,
    sum(audio_cache_read_input_tokens)::BIGINT AS audio_cache_read_input_tokens,
    sum(image_cache_read_input_tokens)::BIGINT AS image_cache_read_input_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    sum(reasoning_output_tokens)::BIGINT AS reasoning_output_tokens,
    sum(text_output_tokens)::BIGINT AS text_output_tokens,
    sum(audio_output_tokens)::BIGINT AS audio_output_tokens,
    sum(image_output_tokens)::BIGINT AS image_output_tokens,
    sum(characters)::BIGINT AS characters,
    sum(audio_us)::BIGINT AS audio_us,
    sum(session_us)::BIGINT AS session_us,
    sum(other_tokens)::BIGINT AS other_tokens,
    sum(unpriced_requests)::BIGINT AS unpriced_requests,
    sum(unpriced_input_tokens)::BIGINT AS unpriced_input_tokens,
    sum(unpriced_output_tokens)::BIGINT AS unpriced_output_tokens,
    sum(unpriced_other_tokens)::BIGINT AS unpriced_other_tokens,
    sum(unpriced_characters)::BIGINT AS unpriced_characters,
    sum(unpriced_audio_us)::BIGINT AS unpriced_audio_us,
    sum(unpriced_session_us)::BIGINT AS unpriced_session_us,
    sum(meters)::BIGINT AS meters,
    sum(priced_meters)::BIGINT AS priced_meters,
    sum(listed_meters)::BIGINT AS listed_meters,
    sum(billed_meters)::BIGINT AS billed_meters,
    list(parted.first_place) AS first_places  -- of the rows that it takes the place of
FROM parted
GROUP BY
    project,
    session_id,
    day,
    agent_id,
    tenant,
    agent_label,
    modality,
    provider,
    model,
    estimated,
    size_tier,
    service_tier,
    operation,
    price_id,
    corrects,
    provider_raw,
    part
HAVING count(*) > 1;
