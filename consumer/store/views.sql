-- The views are the contract with everybody who reads: `costs query`, notebooks, ad-hoc SQL.
-- Columns are added, never renamed or removed. Money is US dollars, times are UTC.

-- One row per booking.
CREATE OR REPLACE VIEW usage AS
SELECT
    occurred_at,
    occurred_at::DATE AS day,
    booked_at,
    session_id,
    project,
    agent_id,
    agent_label,
    tenant,
    modality,
    provider,
    provider_raw,
    model,
    estimated,
    cost,
    currency,
    unpriced_reason,
    reported_cost,
    requests,
    large_requests,
    input_tokens,
    cache_read_input_tokens,
    cache_creation_input_tokens,
    text_input_tokens,
    audio_input_tokens,
    image_input_tokens,
    text_cache_read_input_tokens,
    audio_cache_read_input_tokens,
    image_cache_read_input_tokens,
    output_tokens,
    reasoning_output_tokens,
    text_output_tokens,
    audio_output_tokens,
    image_output_tokens,
    characters,
    audio_us,
    (audio_us::DECIMAL(18, 0) * 0.000001::DECIMAL(7, 6))::DECIMAL(18, 6) AS audio_seconds,
    session_us,
    (session_us::DECIMAL(18, 0) * 0.000001::DECIMAL(7, 6))::DECIMAL(18, 6) AS session_seconds,
    request_id,
    speech_id,
    duration_us,
    time_to_first_us,
    cancelled,
    price_source,
    price_version,
    price_model,
    number,
    producer_id,
    batch_number,
    stream_sequence
FROM bookings;

-- One row per session that started, ended or used anything.
CREATE OR REPLACE VIEW sessions AS
WITH used AS (
    SELECT
        session_id,
        any_value(project) AS project,
        any_value(agent_id) AS agent_id,
        any_value(tenant) AS tenant,
        min(occurred_at) AS first_usage_at,
        max(occurred_at) AS last_usage_at,
        sum(cost) AS cost,
        sum(cost) FILTER (modality = 'stt') AS stt_cost,
        sum(cost) FILTER (modality = 'llm') AS llm_cost,
        sum(cost) FILTER (modality = 'tts') AS tts_cost,
        sum(cost) FILTER (modality = 'realtime') AS realtime_cost,
        sum(cost) FILTER (estimated) AS estimated_cost,
        count(*) FILTER (unpriced_reason IS NOT NULL) AS unpriced_rows,
        count(*) AS rows
    FROM bookings
    GROUP BY session_id
),
ended AS (
    -- a session that went on after its end has ended again, under a higher number
    SELECT *
    FROM session_ends
    QUALIFY row_number() OVER (PARTITION BY session_id ORDER BY number DESC) = 1
),
known AS (
    SELECT session_id FROM used
    UNION
    SELECT session_id FROM session_starts
    UNION
    SELECT session_id FROM session_ends
)
SELECT
    known.session_id,
    coalesce(s.project, e.project, used.project) AS project,
    coalesce(s.agent_id, e.agent_id, used.agent_id) AS agent_id,
    coalesce(s.tenant, e.tenant, used.tenant) AS tenant,
    s.started_at,
    e.ended_at,
    (epoch_us(e.ended_at) - epoch_us(s.started_at)) AS duration_us,
    e.status,
    e.reason,
    used.first_usage_at,
    used.last_usage_at,
    used.cost,
    used.stt_cost,
    used.llm_cost,
    used.tts_cost,
    used.realtime_cost,
    used.estimated_cost,
    coalesce(used.unpriced_rows, 0) AS unpriced_rows,
    coalesce(used.rows, 0) AS rows,
    s.job_id,
    s.room_name,
    s.room_sid,
    s.worker_id,
    s.deployment,
    s.fake_job,
    s.labels
FROM known
LEFT JOIN used USING (session_id)
LEFT JOIN session_starts AS s USING (session_id)
LEFT JOIN ended AS e USING (session_id);

-- Cost per UTC day and dimension.
CREATE OR REPLACE VIEW cost_by_day AS
SELECT
    occurred_at::DATE AS day,
    project,
    tenant,
    agent_id,
    modality,
    provider,
    model,
    sum(cost) AS cost,
    count(DISTINCT session_id) AS sessions,
    count(*) FILTER (unpriced_reason IS NOT NULL) AS unpriced_rows
FROM bookings
GROUP BY ALL;

-- What has no price, and why.
CREATE OR REPLACE VIEW unpriced AS
SELECT
    unpriced_reason AS reason,
    modality,
    provider,
    provider_raw,
    model,
    count(*) AS rows,
    count(DISTINCT session_id) AS sessions,
    min(occurred_at) AS first_at,
    max(occurred_at) AS last_at,
    sum(requests)::BIGINT AS requests,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    sum(characters)::BIGINT AS characters,
    sum(audio_us)::BIGINT AS audio_us,
    sum(session_us)::BIGINT AS session_us
FROM bookings
WHERE unpriced_reason IS NOT NULL
GROUP BY ALL;

-- One row: what the ledger knows to be missing from the numbers. A producer reports running totals,
-- so its highest ones count.
CREATE OR REPLACE VIEW completeness AS
WITH producers AS (
    SELECT
        producer_id,
        max(captured) AS captured,
        max(coalesced) AS coalesced,
        max(dropped) AS dropped,
        max(unattributed) AS unattributed
    FROM producer_reports
    GROUP BY producer_id
)
SELECT
    (SELECT count(*) FROM dead_letters) AS dead_letters,
    (SELECT count(*) FROM bookings WHERE unpriced_reason IS NOT NULL) AS unpriced_rows,
    count(*) AS producers,
    coalesce(sum(captured), 0)::BIGINT AS captured,
    coalesce(sum(coalesced), 0)::BIGINT AS coalesced,
    coalesce(sum(dropped), 0)::BIGINT AS dropped,
    coalesce(sum(unattributed), 0)::BIGINT AS unattributed
FROM producers;
