-- Add up the rows of `bookings` in a span of places: those of a meter that follow each other and agree in
-- their day, in the operation that they belong to and in the prices that rated them.
INSERT INTO folded_usage
WITH placed AS (
    SELECT * FROM bookings WHERE place > $after AND place <= $upto
),
changed AS (
    -- the few sessions of which a meter changes its prices among these rows
    SELECT DISTINCT project, session_id
    FROM (
        SELECT project, session_id
        FROM placed
        WHERE session_id IS NOT NULL
        GROUP BY
            project,
            session_id,
            agent_label,
            modality,
            provider,
            model,
            estimated,
            size_tier,
            service_tier
        HAVING min(coalesce(price_id, -1)) <> max(coalesce(price_id, -1))
            OR min(coalesce(operation, -1)) <> max(coalesce(operation, -1))
    )
),
compared AS (
    SELECT
        *,
        lag(place) OVER meter IS NULL
        OR operation IS DISTINCT FROM lag(operation) OVER meter
        OR price_id IS DISTINCT FROM lag(price_id) OVER meter AS is_other
    FROM placed
    SEMI JOIN changed USING (project, session_id)
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
        ORDER BY place
    )
),
parted AS (
    SELECT *, 0 AS part FROM placed ANTI JOIN changed USING (project, session_id)
    UNION ALL BY NAME
    SELECT
        * EXCLUDE (is_other),
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
            ORDER BY place
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
    arg_max(currency, place),
    arg_max_null(price_source, place),
    arg_max_null(price_version, place),
    arg_max_null(price_model, place),
    arg_max(unpriced_reason, place),
    arg_max_null(unbilled_reason, place),
    min(place),
    max(place),
    max(number),
    min(occurred_at),
    max(occurred_at),
    max(booked_at),
    min(occurred_at) FILTER (unpriced_reason IS NOT NULL),
    max(occurred_at) FILTER (unpriced_reason IS NOT NULL),
    min(stream_sequence),
    count(*) FILTER (opens),
    count(*),
    count(unpriced_reason),
    sum(cost)::DECIMAL(18, 9),
    sum(list_cost)::DECIMAL(18, 9),
    sum(billed)::DECIMAL(18, 9),
    sum(reported_cost)::DECIMAL(18, 9),
    sum(requests)::BIGINT,
    sum(large_requests)::BIGINT,
    sum(input_tokens)::BIGINT,
    sum(cache_read_input_tokens)::BIGINT,
    sum(cache_creation_input_tokens)::BIGINT,
    sum(text_input_tokens)::BIGINT,
    sum(audio_input_tokens)::BIGINT,
    sum(image_input_tokens)::BIGINT,
    sum(text_cache_read_input_tokens)::BIGINT,
    sum(audio_cache_read_input_tokens)::BIGINT,
    sum(image_cache_read_input_tokens)::BIGINT,
    sum(output_tokens)::BIGINT,
    sum(reasoning_output_tokens)::BIGINT,
    sum(text_output_tokens)::BIGINT,
    sum(audio_output_tokens)::BIGINT,
    sum(image_output_tokens)::BIGINT,
    sum(characters)::BIGINT,
    sum(audio_us)::BIGINT,
    sum(session_us)::BIGINT,
    sum(other_tokens)::BIGINT,
    sum(unpriced_requests)::BIGINT,
    sum(unpriced_input_tokens)::BIGINT,
    sum(unpriced_output_tokens)::BIGINT,
    sum(unpriced_other_tokens)::BIGINT,
    sum(unpriced_characters)::BIGINT,
    sum(unpriced_audio_us)::BIGINT,
    sum(unpriced_session_us)::BIGINT,
    sum(meters)::BIGINT,
    sum(priced_meters)::BIGINT,
    sum(listed_meters)::BIGINT,
    sum(billed_meters)::BIGINT
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
ORDER BY session_id, project, min(place);
