-- The views are the contract with everybody who reads: `costs query`, notebooks, ad-hoc SQL.
-- Columns are added, never renamed or removed. Money is US dollars, times are UTC. A session is known by
-- (project, session_id): the same id in another project is another session. Its tenant, its agent and
-- its day are one in every view: those of its first event, and the UTC day on which it started.

-- All rows that there are, for `usage` alone. The ledger replaces it where days are sealed: `sql/all_bookings.sql`.
CREATE OR REPLACE MACRO all_bookings(folder := NULL) AS TABLE SELECT * FROM bookings;

-- One row per booking. Those of sealed days are in files: a question about some days reads the files of these.
CREATE OR REPLACE VIEW usage AS
SELECT
    occurred_at,
    day,  -- the UTC day on which the session started
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
    stream_sequence,
    size_tier,
    service_tier,
    other_tokens,
    -- how much of the meter has no price since this row: sums say what its last state is
    unpriced_requests,
    unpriced_input_tokens,
    unpriced_output_tokens,
    unpriced_other_tokens,
    unpriced_characters,
    unpriced_audio_us,
    unpriced_session_us,
    make_timestamp(epoch_us(uuid_extract_timestamp(session_id))) AS session_started_at,
    list_cost,  -- the published price of what `cost` is the operator's own price of
    billed,  -- what the tenant is charged: NULL where no rule says so
    unbilled_reason,  -- why `billed` does not cover all of the meter, where a rule bills it
    price_id,  -- the prices in `prices_used`: NULL where there was none, and in rows of older versions
    operation,  -- NULL: reported by a worker
    corrects,  -- the closed month that the row belongs to; the row is dated in an open one
    place,  -- rows are booked in this order
    opens,  -- the first row of its session
    -- whether the meter has used anything, and has a cost, a list price and a billed amount, by difference
    meters,
    priced_meters,
    listed_meters,
    billed_meters
FROM all_bookings();

-- What the rows of a meter add up to, as far as they agree in their day, their operation and their prices: a
-- meter has one row or a few. Everything in it adds up. It is small beside `usage`, and has all of it.
CREATE OR REPLACE VIEW session_usage AS
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
    currency,
    price_source,
    price_version,
    price_model,
    unpriced_reason,
    unbilled_reason,
    first_place,
    last_place,
    number,
    first_at,
    last_at,
    booked_at,
    first_unpriced_at,
    last_unpriced_at,
    first_sequence,
    sessions,
    rows,
    unpriced_rows,
    cost,
    list_cost,
    billed,
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
    session_us,
    other_tokens,
    unpriced_requests,
    unpriced_input_tokens,
    unpriced_output_tokens,
    unpriced_other_tokens,
    unpriced_characters,
    unpriced_audio_us,
    unpriced_session_us,
    meters,
    priced_meters,
    listed_meters,
    billed_meters
FROM folded_usage
UNION ALL
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
    currency,
    price_source,
    price_version,
    price_model,
    unpriced_reason,
    unbilled_reason,
    place AS first_place,
    place AS last_place,
    number,
    occurred_at AS first_at,
    occurred_at AS last_at,
    booked_at,
    CASE WHEN unpriced_reason IS NOT NULL THEN occurred_at END AS first_unpriced_at,
    CASE WHEN unpriced_reason IS NOT NULL THEN occurred_at END AS last_unpriced_at,
    stream_sequence AS first_sequence,
    opens::BIGINT AS sessions,
    1 AS rows,
    (unpriced_reason IS NOT NULL)::BIGINT AS unpriced_rows,
    cost,
    list_cost,
    billed,
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
    session_us,
    other_tokens,
    unpriced_requests,
    unpriced_input_tokens,
    unpriced_output_tokens,
    unpriced_other_tokens,
    unpriced_characters,
    unpriced_audio_us,
    unpriced_session_us,
    meters,
    priced_meters,
    listed_meters,
    billed_meters
FROM bookings
WHERE place > (SELECT folded_to FROM fold_state);

-- What the rows of a month add up to, by everything but sessions and days; several rows may have the same keys. It is
-- small beside `session_usage`, and has all of it.
CREATE OR REPLACE VIEW monthly_usage AS
SELECT
    month,
    project,
    agent_id,
    tenant,
    agent_label,
    modality,
    provider,
    model,
    estimated,
    service_tier,
    operation,
    corrects,
    sessions,
    rows,
    unpriced_rows,
    cost,
    list_cost,
    billed,
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
    session_us,
    other_tokens,
    unpriced_requests,
    unpriced_input_tokens,
    unpriced_output_tokens,
    unpriced_other_tokens,
    unpriced_characters,
    unpriced_audio_us,
    unpriced_session_us,
    meters,
    priced_meters,
    listed_meters,
    billed_meters,
    unpriced_reason,
    unpriced_place,
    unlisted_rows,
    unbilled_rows
FROM folded_months
UNION ALL
SELECT
    date_trunc('month', day)::DATE AS month,
    project,
    agent_id,
    tenant,
    agent_label,
    modality,
    provider,
    model,
    estimated,
    service_tier,
    operation,
    corrects,
    opens::BIGINT AS sessions,
    1 AS rows,
    (unpriced_reason IS NOT NULL)::BIGINT AS unpriced_rows,
    cost,
    list_cost,
    billed,
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
    session_us,
    other_tokens,
    unpriced_requests,
    unpriced_input_tokens,
    unpriced_output_tokens,
    unpriced_other_tokens,
    unpriced_characters,
    unpriced_audio_us,
    unpriced_session_us,
    meters,
    priced_meters,
    listed_meters,
    billed_meters,
    unpriced_reason,
    CASE WHEN unpriced_reason IS NOT NULL THEN place END AS unpriced_place,
    coalesce(((operation IS NULL OR session_id IS NOT NULL)
        AND (cost IS NOT NULL AND list_cost IS NULL OR priced_meters <> listed_meters)), FALSE)::BIGINT AS unlisted_rows,
    coalesce(((operation IS NULL OR session_id IS NOT NULL)
        AND (cost IS NOT NULL AND billed IS NULL OR priced_meters <> billed_meters)), FALSE)::BIGINT AS unbilled_rows
FROM bookings
WHERE place > (SELECT folded_to FROM fold_state);

-- The sum of an amount of some rows of `usage`, or of `session_usage`: NULL where they are of meters, none of
-- which has that amount now. A sum that is not zero is one in any case: a day may have the corrections of
-- meters that are dated in a closed month.
CREATE OR REPLACE MACRO summed(amount, meters_with_it, meters) AS CASE
    WHEN sum(meters_with_it) = 0 AND sum(meters) > 0 AND coalesce(sum(amount), 0) = 0 THEN NULL
    ELSE sum(amount)
END;

-- The same of those among the rows that are of some part.
CREATE OR REPLACE MACRO summed_of(part, amount, meters_with_it, meters) AS summed(
    CASE WHEN part THEN amount END,
    CASE WHEN part THEN meters_with_it END,
    CASE WHEN part THEN meters END
);

-- The sessions that are not settled, of a span of ids.
CREATE OR REPLACE MACRO pending_between(first_id, last_id) AS TABLE
SELECT project, session_id FROM pending_sessions WHERE session_id BETWEEN first_id AND last_id;

-- Their usage in their own month. What came after that was closed is in `corrections`: a closed month stays
-- what it was.
CREATE OR REPLACE MACRO own_month_of_pending(first_id, last_id) AS TABLE
SELECT u.*
FROM session_usage AS u
SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
WHERE u.corrects IS NULL;

-- Those of which something is in `corrections`.
CREATE OR REPLACE MACRO corrected_of_pending(first_id, last_id) AS TABLE
SELECT DISTINCT u.project, u.session_id
FROM session_usage AS u
SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
WHERE u.corrects IS NOT NULL;

-- The same as the view `sessions` has them.
CREATE OR REPLACE MACRO facts_of_pending(first_id, last_id) AS TABLE
WITH used AS (
    SELECT
        project,
        session_id,
        min(first_at) FILTER (operation IS NULL) AS first_usage_at,
        max(last_at) FILTER (operation IS NULL) AS last_usage_at,
        summed(cost, priced_meters, meters) AS cost,
        summed_of(modality = 'stt', cost, priced_meters, meters) AS stt_cost,
        summed_of(modality = 'llm', cost, priced_meters, meters) AS llm_cost,
        summed_of(modality = 'tts', cost, priced_meters, meters) AS tts_cost,
        summed_of(modality = 'realtime', cost, priced_meters, meters) AS realtime_cost,
        summed_of(estimated, cost, priced_meters, meters) AS estimated_cost,
        sum(unpriced_rows)::BIGINT AS unpriced_rows,
        sum(rows)::BIGINT AS rows,
        summed(list_cost, listed_meters, meters) AS list_cost,
        summed(billed, billed_meters, meters) AS billed
    FROM own_month_of_pending(first_id, last_id)
    GROUP BY project, session_id
),
started AS (
    SELECT * FROM session_starts SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
),
ended AS (
    -- a session that went on after its end has ended again, under a higher number
    SELECT *
    FROM session_ends
    SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
    QUALIFY row_number() OVER (PARTITION BY project, session_id ORDER BY number DESC) = 1
)
SELECT
    i.session_id,
    i.project,
    i.agent_id,
    i.tenant,
    s.started_at,
    e.ended_at,
    (epoch_us(e.ended_at) - epoch_us(s.started_at)) AS duration_us,
    e.status,
    e.reason,
    used.first_usage_at,
    used.last_usage_at,
    CASE
        WHEN used.session_id IS NULL AND corrected.session_id IS NULL THEN 0::DECIMAL(38, 9)
        ELSE used.cost
    END AS cost,
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
    s.labels,
    i.day,
    CASE
        WHEN used.session_id IS NULL AND corrected.session_id IS NULL THEN 0::DECIMAL(38, 9)
        ELSE used.list_cost
    END AS list_cost,
    used.billed,
    e.outcome,
    e.tags,
    e.tags_cut,
    e.user_turns,
    e.preempted
FROM session_identities AS i
SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
LEFT JOIN used USING (project, session_id)
LEFT JOIN corrected_of_pending(first_id, last_id) AS corrected USING (project, session_id)
LEFT JOIN started AS s USING (project, session_id)
LEFT JOIN ended AS e USING (project, session_id);

-- One row per session that started, ended or used anything.
CREATE OR REPLACE VIEW sessions AS
SELECT
    session_id,
    project,
    agent_id,
    tenant,
    started_at,
    ended_at,
    (epoch_us(ended_at) - epoch_us(started_at)) AS duration_us,
    status,
    reason,
    first_usage_at,
    last_usage_at,
    cost,
    stt_cost,
    llm_cost,
    tts_cost,
    realtime_cost,
    estimated_cost,
    unpriced_rows,
    rows,
    job_id,
    room_name,
    room_sid,
    worker_id,
    deployment,
    fake_job,
    labels,
    day,
    list_cost,
    billed,
    outcome,  -- what the worker's code said of the job; NULL: nothing
    tags,
    tags_cut,
    user_turns,  -- NULL: not known
    preempted
FROM settled_sessions
WHERE is_identified
UNION ALL
SELECT *
FROM facts_of_pending(
    '00000000-0000-0000-0000-000000000000'::UUID,
    'ffffffff-ffff-ffff-ffff-ffffffffffff'::UUID
);

-- Cost per day and dimension. A session is on the UTC day on which it started. What corrects a closed month is
-- on a later day, and takes no meter away from those of that day.
CREATE OR REPLACE VIEW cost_by_day AS
WITH standing AS (
    SELECT * FROM session_usage
    UNION ALL BY NAME
    SELECT
        day,
        project,
        session_id,
        any_value(tenant) AS tenant,
        any_value(agent_id) AS agent_id,
        modality,
        provider,
        model,
        0 AS operation,
        greatest(-sum(meters), 0)::BIGINT AS meters,
        greatest(-sum(priced_meters), 0)::BIGINT AS priced_meters
    FROM session_usage
    WHERE corrects IS NOT NULL AND session_id IS NOT NULL
    GROUP BY
        day,
        project,
        session_id,
        agent_label,
        modality,
        provider,
        model,
        estimated,
        size_tier,
        service_tier
    HAVING sum(meters) < 0 OR sum(priced_meters) < 0
)

SELECT
    day,
    project,
    tenant,
    agent_id,
    modality,
    provider,
    model,
    summed(cost, priced_meters, meters) AS cost,
    -- not by a join: above one, DuckDB 2.0.1 adds up wrongly what is below it
    count(DISTINCT session_id) FILTER (
        operation IS NULL
        AND (project, session_id) NOT IN (
            SELECT (project, session_id) FROM void_marks WHERE uncounted
        )
    ) AS sessions,
    sum(unpriced_rows)::BIGINT AS unpriced_rows
FROM standing
GROUP BY ALL;

-- What has no price, and why: by the last state of each meter, so what was priced later is not in here.
CREATE OR REPLACE VIEW unpriced AS
WITH meters AS (
    SELECT
        project,
        session_id,
        tenant,
        agent_id,
        modality,
        provider,
        max(provider_raw) AS provider_raw,
        model,
        size_tier,
        service_tier,
        arg_max(unpriced_reason, last_place) AS reason,
        sum(unpriced_rows) AS rows,
        min(first_unpriced_at) FILTER (operation IS NULL) AS first_at,
        max(last_unpriced_at) FILTER (operation IS NULL) AS last_at,
        sum(unpriced_requests) AS requests,
        sum(unpriced_input_tokens) AS input_tokens,
        sum(unpriced_output_tokens) AS output_tokens,
        sum(unpriced_other_tokens) AS other_tokens,
        sum(unpriced_characters) AS characters,
        sum(unpriced_audio_us) AS audio_us,
        sum(unpriced_session_us) AS session_us
    FROM session_usage
    -- a row without a reason takes part where it takes back what had none
    WHERE unpriced_reason IS NOT NULL
        OR unpriced_requests <> 0
        OR unpriced_input_tokens <> 0
        OR unpriced_output_tokens <> 0
        OR unpriced_other_tokens <> 0
        OR unpriced_characters <> 0
        OR unpriced_audio_us <> 0
        OR unpriced_session_us <> 0
    GROUP BY
        project,
        session_id,
        tenant,
        agent_id,
        agent_label,
        modality,
        provider,
        model,
        estimated,
        size_tier,
        service_tier
    HAVING requests <> 0
        OR input_tokens <> 0
        OR output_tokens <> 0
        OR other_tokens <> 0
        OR characters <> 0
        OR audio_us <> 0
        OR session_us <> 0
)
SELECT
    reason,
    modality,
    provider,
    provider_raw,
    model,
    least(sum(rows), 9223372036854775807)::BIGINT AS rows,
    count(DISTINCT (project, session_id)) AS sessions,
    min(first_at) AS first_at,
    max(last_at) AS last_at,
    least(sum(requests), 9223372036854775807)::BIGINT AS requests,
    least(sum(input_tokens), 9223372036854775807)::BIGINT AS input_tokens,
    least(sum(output_tokens), 9223372036854775807)::BIGINT AS output_tokens,
    least(sum(characters), 9223372036854775807)::BIGINT AS characters,
    least(sum(audio_us), 9223372036854775807)::BIGINT AS audio_us,
    least(sum(session_us), 9223372036854775807)::BIGINT AS session_us,
    project,
    tenant,
    agent_id,
    size_tier,
    service_tier,
    least(sum(other_tokens), 9223372036854775807)::BIGINT AS other_tokens
FROM meters
GROUP BY
    project,
    tenant,
    agent_id,
    modality,
    provider,
    provider_raw,
    model,
    size_tier,
    service_tier,
    reason;

-- The sessions whose numbers may still change or lack something, as of a moment: open, abandoned or
-- short. A session is open for as long as the ledger last heard of it no longer than `quiet` ago, by its
-- own clock: a worker's may be wrong. A producer with live sessions reports every five minutes, so one
-- on hold is open too, and one whose producer has missed three reports is not; nor is one whose producer
-- is known to have ended, unless the ledger heard of it again; nor one whose producer said after its
-- start that it has no live session: its end was made, and is lost or still to come.
CREATE OR REPLACE MACRO unsettled_of_pending(moment, quiet, first_id, last_id) AS TABLE
WITH voided AS (
    -- in a month that was closed with it, it stays what it was
    SELECT project, session_id FROM void_marks WHERE uncounted
),
ended AS (
    SELECT project, session_id, max(number) AS number
    FROM session_ends
    SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
    GROUP BY project, session_id
),
endless AS (
    -- whatever was booked of a session, it has started, or was noted, or has ended
    SELECT
        project,
        session_id,
        max(last_at) AS last_at,
        max(started_at) AS started_at,
        list(DISTINCT producer_id) AS producers
    FROM (
        -- NULL: an older version did not note when it was told
        SELECT
            project,
            session_id,
            coalesce(received_at, started_at) AS last_at,
            started_at,
            producer_id
        FROM session_starts
        UNION ALL
        SELECT project, session_id, coalesce(received_at, occurred_at), NULL, producer_id
        FROM session_notes
    )
    SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
    ANTI JOIN ended USING (project, session_id)
    ANTI JOIN voided USING (project, session_id)
    GROUP BY project, session_id
),
heard AS (
    SELECT project, session_id, max(booked_at) AS last_at
    FROM session_usage
    SEMI JOIN endless USING (project, session_id)
    WHERE booked_at >= moment - quiet AND operation IS NULL
    GROUP BY project, session_id
    UNION ALL
    SELECT project, session_id, last_at FROM endless
),
alive AS (
    -- when a producer last said that it has live sessions, if that is the last that it said of them
    SELECT project, producer_id, max(received_at) AS last_at
    FROM producer_reports
    WHERE live_sessions IS NOT NULL
    GROUP BY project, producer_id
    HAVING arg_max(live_sessions, number) > 0
),
told AS (
    SELECT project, session_id, max(alive.last_at) AS last_at
    FROM (SELECT project, session_id, unnest(producers) AS producer_id FROM endless)
    INNER JOIN alive USING (project, producer_id)
    GROUP BY project, session_id
),
gone AS (
    -- since when every producer of a session is known to have ended
    SELECT project, session_id, max(departed.last_at) AS last_at
    FROM (SELECT project, session_id, unnest(producers) AS producer_id FROM endless)
    LEFT JOIN (
        SELECT project, producer_id, max(received_at) AS last_at
        FROM producer_reports
        WHERE ended
        GROUP BY project, producer_id
    ) AS departed USING (project, producer_id)
    GROUP BY project, session_id
    HAVING count(departed.last_at) = count(*)
),
finished AS (
    -- since when every producer of a session is known to have had no live session after its start, so
    -- that its end was made. Both times are of one clock; what starts while a report is made is not in it.
    SELECT project, session_id, max(last_at) AS last_at
    FROM (
        SELECT own.project, own.session_id, own.producer_id, min(report.received_at) AS last_at
        FROM (
            SELECT project, session_id, started_at, unnest(producers) AS producer_id FROM endless
        ) AS own
        LEFT JOIN producer_reports AS report
            ON report.project = own.project
            AND report.producer_id = own.producer_id
            AND report.live_sessions = 0
            AND report.reported_at >= own.started_at + INTERVAL 5 SECOND
        GROUP BY own.project, own.session_id, own.producer_id
    )
    GROUP BY project, session_id
    HAVING count(last_at) = count(*)
),
recent AS (
    SELECT project, session_id
    FROM (
        SELECT project, session_id, max(last_at) AS last_at FROM heard GROUP BY project, session_id
    ) AS own
    LEFT JOIN told USING (project, session_id)
    LEFT JOIN gone USING (project, session_id)
    LEFT JOIN finished USING (project, session_id)
    WHERE CASE
        -- a report may overtake the end by some seconds
        WHEN greatest(finished.last_at, own.last_at) < moment - least(quiet, INTERVAL 10 SECOND)
            AND finished.last_at IS NOT NULL THEN FALSE
        WHEN gone.last_at >= greatest(own.last_at, told.last_at) THEN FALSE
        WHEN told.last_at IS NULL THEN own.last_at >= moment - quiet
        ELSE greatest(own.last_at, told.last_at) >= moment - least(quiet, INTERVAL 15 MINUTE)
    END
),
dropped AS (
    -- a producer says how much it dropped, but not of whom: of any session that has not ended
    SELECT project, session_id
    FROM (SELECT project, session_id, unnest(producers) AS producer_id FROM endless)
    SEMI JOIN (
        SELECT project, producer_id
        FROM producer_reports
        GROUP BY project, producer_id
        HAVING max(dropped) > 0
    ) AS lossy USING (project, producer_id)
    GROUP BY project, session_id
),
refused AS (
    -- what an end has not made good: an unreadable number may belong to anything, and no end knows
    -- what another producer or an older version counted
    SELECT
        n.project,
        n.session_id,
        string_agg(DISTINCT n.reason, ', ' ORDER BY n.reason) AS cause,
        CASE WHEN count(n.at_most) = count(*) THEN sum(n.at_most) END AS missing_at_most
    FROM session_notes AS n
    SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
    LEFT JOIN ended USING (project, session_id)
    WHERE n.reason NOT IN ('nothing_new', 'after_end', 'no_start')
        AND (
            n.number = 0
            OR n.reason = 'other_producer'
            OR n.number >= coalesce(ended.number, 0)
        )
        AND (
            n.reason <> 'voided'
            OR (n.project, n.session_id) NOT IN (
                SELECT (project, session_id) FROM void_marks WHERE operation IS NOT NULL
            )
        )
    GROUP BY n.project, n.session_id
),
late AS (
    -- readings after the end are in no final totals, so each of them must have come
    SELECT DISTINCT n.project, n.session_id, ended.number AS ended
    FROM session_notes AS n
    INNER JOIN ended USING (project, session_id)
    WHERE (n.reason = 'after_end' AND n.number = ended.number)
        OR (n.reason = 'nothing_new' AND n.number > ended.number)
),
not_measured AS (
    -- it is in no end's totals, so no later end makes it good
    SELECT DISTINCT project, session_id
    FROM session_ends
    SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
    WHERE unmeasured > 0
),
gaps AS (
    SELECT late.project, late.session_id
    FROM late
    INNER JOIN (
        SELECT project, session_id, unnest(range(first_number, last_number + 1)) AS number
        FROM session_readings
        SEMI JOIN late USING (project, session_id)
        UNION ALL
        SELECT project, session_id, number
        FROM bookings
        WHERE place > (SELECT folded_to FROM fold_state)
        UNION ALL
        SELECT project, session_id, number FROM session_notes WHERE reason = 'nothing_new'
    ) AS came
        ON came.session_id = late.session_id
        AND came.project = late.project
        AND came.number > late.ended
    GROUP BY late.project, late.session_id, late.ended
    HAVING count(DISTINCT came.number) < max(came.number) - late.ended
)
SELECT
    session_id,
    CASE
        WHEN recent.session_id IS NOT NULL THEN 'open'
        WHEN refused.session_id IS NOT NULL OR dropped.session_id IS NOT NULL THEN 'short'
        ELSE 'abandoned'
    END AS state,
    CASE
        WHEN recent.session_id IS NOT NULL THEN NULL  -- its end may yet make everything good
        WHEN refused.session_id IS NOT NULL THEN refused.cause
        WHEN dropped.session_id IS NOT NULL THEN 'producer_dropped'
    END AS cause,
    NULL::DECIMAL(38, 9) AS missing_at_most,  -- nobody knows what came after it was last seen
    project
FROM endless
LEFT JOIN recent USING (project, session_id)
LEFT JOIN dropped USING (project, session_id)
LEFT JOIN refused USING (project, session_id)
UNION ALL
SELECT
    session_id,
    'short' AS state,
    concat_ws(
        ', ',
        refused.cause,
        CASE WHEN gaps.session_id IS NOT NULL THEN 'gap_after_end' END,
        CASE WHEN not_measured.session_id IS NOT NULL THEN 'unmeasured' END
    ),
    CASE
        WHEN gaps.session_id IS NULL AND not_measured.session_id IS NULL
            THEN refused.missing_at_most
    END,
    project
FROM (
    SELECT project, session_id FROM refused
    UNION
    SELECT project, session_id FROM gaps
    UNION
    SELECT project, session_id FROM not_measured
)
SEMI JOIN ended USING (project, session_id)
ANTI JOIN voided USING (project, session_id)
LEFT JOIN refused USING (project, session_id)
LEFT JOIN gaps USING (project, session_id)
LEFT JOIN not_measured USING (project, session_id);

-- The same of all sessions. What is settled is short or abandoned whatever the moment.
CREATE OR REPLACE MACRO unsettled_sessions(moment, quiet) AS TABLE
SELECT session_id, state, cause, missing_at_most, nullif(project, '') AS project
FROM settled_sessions
WHERE state IN ('short', 'abandoned')
UNION ALL
SELECT *
FROM unsettled_of_pending(
    moment,
    quiet,
    '00000000-0000-0000-0000-000000000000'::UUID,
    'ffffffff-ffff-ffff-ffff-ffffffffffff'::UUID
);

-- Every session and whether it is whole, as of a moment. One that has ended and is not short holds
-- what its end says: complete when every reading came by itself, repaired when the end made some
-- of them good.
CREATE OR REPLACE MACRO completeness_of_pending(moment, quiet, first_id, last_id) AS TABLE
WITH ended AS (
    SELECT *
    FROM session_ends
    SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
    QUALIFY row_number() OVER (PARTITION BY project, session_id ORDER BY number DESC) = 1
),
used AS (
    SELECT project, session_id, max(last_at) AS last_at
    FROM session_usage
    SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
    WHERE operation IS NULL
    GROUP BY project, session_id
),
own AS (
    SELECT project, session_id, summed(cost, priced_meters, meters) AS cost
    FROM (
        SELECT * FROM own_month_of_pending(first_id, last_id)
        UNION ALL
        -- all of it came after its month was closed, and so it is dated in a later one itself
        SELECT u.*
        FROM session_usage AS u
        INNER JOIN session_identities AS i USING (project, session_id)
        SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
        WHERE u.corrects IS NOT NULL
            AND date_trunc('month', u.day) = date_trunc('month', i.day)
    )
    GROUP BY project, session_id
),
not_measured AS (
    SELECT project, session_id, max(unmeasured) AS events
    FROM session_ends
    SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
    WHERE unmeasured > 0
    GROUP BY project, session_id
),
noted AS (
    SELECT project, session_id, max(occurred_at) AS last_at
    FROM session_notes
    SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
    GROUP BY project, session_id
),
came AS (
    SELECT project, session_id, count(DISTINCT reading.number) AS arrived
    FROM (
        SELECT project, session_id, unnest(range(first_number, last_number + 1)) AS number
        FROM session_readings
        SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
        UNION ALL
        SELECT project, session_id, number
        FROM bookings
        SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
        WHERE place > (SELECT folded_to FROM fold_state)
        UNION ALL
        SELECT project, session_id, number
        FROM session_notes
        SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
        WHERE reason = 'nothing_new'
    ) AS reading
    LEFT JOIN ended USING (project, session_id)
    ANTI JOIN (
        SELECT project, session_id, number
        FROM session_ends
        SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
    ) AS e
        ON e.session_id = reading.session_id
        AND e.project = reading.project
        AND e.number = reading.number
    WHERE reading.number < ended.number OR ended.number IS NULL
    GROUP BY project, session_id
),
started AS (
    SELECT * FROM session_starts SEMI JOIN pending_between(first_id, last_id) USING (project, session_id)
),
known AS (
    SELECT project, session_id FROM pending_between(first_id, last_id)
    EXCEPT
    SELECT project, session_id FROM void_marks WHERE uncounted  -- in no sum
)
SELECT
    known.session_id,
    nullif(known.project, '') AS project,
    i.agent_id,  -- NULL: nothing of the session could be read but its id
    i.tenant,
    coalesce(
        unsettled.state,
        CASE
            WHEN e.session_id IS NULL THEN 'abandoned'
            WHEN coalesce(came.arrived, 0) >= e.readings THEN 'complete'
            ELSE 'repaired'
        END
    ) AS state,
    unsettled.cause,
    greatest(s.started_at, used.last_at, noted.last_at, e.ended_at) AS last_seen_at,
    e.ended_at,
    e.readings AS readings_made,
    coalesce(came.arrived, 0) AS readings_arrived,
    e.coalesced AS readings_coalesced,
    CASE WHEN own.session_id IS NULL THEN 0::DECIMAL(38, 9) ELSE own.cost END AS cost,
    CASE
        WHEN unsettled.state IS NULL THEN 0::DECIMAL(38, 9)
        ELSE unsettled.missing_at_most
    END AS missing_at_most,
    -- NULL: without an end, or booked by a version that did not note it
    coalesce(not_measured.events, e.unmeasured) AS unmeasured,
    i.day
FROM known
LEFT JOIN session_identities AS i USING (project, session_id)
LEFT JOIN used USING (project, session_id)
LEFT JOIN own USING (project, session_id)
LEFT JOIN started AS s USING (project, session_id)
LEFT JOIN ended AS e USING (project, session_id)
LEFT JOIN came USING (project, session_id)
LEFT JOIN noted USING (project, session_id)
LEFT JOIN not_measured USING (project, session_id)
LEFT JOIN unsettled_of_pending(moment, quiet, first_id, last_id) AS unsettled USING (project, session_id);

-- The same of all sessions.
CREATE OR REPLACE MACRO completeness_at(moment, quiet) AS TABLE
SELECT
    session_id,
    nullif(project, '') AS project,
    agent_id,
    tenant,
    state,
    cause,
    last_seen_at,
    ended_at,
    readings_made,
    readings_arrived,
    readings_coalesced,
    own_cost AS cost,
    missing_at_most,
    unmeasured,
    day
FROM settled_sessions
WHERE state IS NOT NULL
UNION ALL
SELECT *
FROM completeness_of_pending(
    moment,
    quiet,
    '00000000-0000-0000-0000-000000000000'::UUID,
    'ffffffff-ffff-ffff-ffff-ffffffffffff'::UUID
);

-- The same as of the moment of the ledger, where a session is open until an hour after it was last
-- seen.
CREATE OR REPLACE VIEW completeness AS
SELECT * FROM completeness_at((SELECT as_of FROM ledger_state), INTERVAL 1 HOUR);

-- What was used and is in no session, because it could not be attributed to one: one row per producer
-- and meter. A producer reports running totals, so its last report counts. What providers counted is
-- in `usage`, here, or not measured.
CREATE OR REPLACE VIEW unattributed AS
WITH newest AS (
    SELECT *
    FROM producer_reports
    QUALIFY row_number() OVER (PARTITION BY project, producer_id ORDER BY number DESC) = 1
),
meters AS (
    SELECT
        project,
        producer_id,
        reported_at,
        unnest(from_json(unattributed_usage, '[{
            "modality": "VARCHAR",
            "provider": "VARCHAR",
            "provider_raw": "VARCHAR",
            "model": "VARCHAR",
            "totals": {
                "requests": "BIGINT",
                "large_requests": "BIGINT",
                "input_tokens": "BIGINT",
                "cache_read_input_tokens": "BIGINT",
                "cache_creation_input_tokens": "BIGINT",
                "text_input_tokens": "BIGINT",
                "audio_input_tokens": "BIGINT",
                "image_input_tokens": "BIGINT",
                "text_cache_read_input_tokens": "BIGINT",
                "audio_cache_read_input_tokens": "BIGINT",
                "image_cache_read_input_tokens": "BIGINT",
                "output_tokens": "BIGINT",
                "reasoning_output_tokens": "BIGINT",
                "text_output_tokens": "BIGINT",
                "audio_output_tokens": "BIGINT",
                "image_output_tokens": "BIGINT",
                "characters": "BIGINT",
                "audio_us": "BIGINT",
                "session_us": "BIGINT",
                "other_tokens": "BIGINT"
            }
        }]')) AS meter
    FROM newest
)
SELECT
    project,
    producer_id,
    reported_at,
    meter.modality AS modality,
    meter.provider AS provider,
    coalesce(meter.provider_raw, '') AS provider_raw,
    meter.model AS model,
    coalesce(meter.totals.requests, 0) AS requests,
    coalesce(meter.totals.large_requests, 0) AS large_requests,
    coalesce(meter.totals.input_tokens, 0) AS input_tokens,
    coalesce(meter.totals.cache_read_input_tokens, 0) AS cache_read_input_tokens,
    coalesce(meter.totals.cache_creation_input_tokens, 0) AS cache_creation_input_tokens,
    coalesce(meter.totals.text_input_tokens, 0) AS text_input_tokens,
    coalesce(meter.totals.audio_input_tokens, 0) AS audio_input_tokens,
    coalesce(meter.totals.image_input_tokens, 0) AS image_input_tokens,
    coalesce(meter.totals.text_cache_read_input_tokens, 0) AS text_cache_read_input_tokens,
    coalesce(meter.totals.audio_cache_read_input_tokens, 0) AS audio_cache_read_input_tokens,
    coalesce(meter.totals.image_cache_read_input_tokens, 0) AS image_cache_read_input_tokens,
    coalesce(meter.totals.output_tokens, 0) AS output_tokens,
    coalesce(meter.totals.reasoning_output_tokens, 0) AS reasoning_output_tokens,
    coalesce(meter.totals.text_output_tokens, 0) AS text_output_tokens,
    coalesce(meter.totals.audio_output_tokens, 0) AS audio_output_tokens,
    coalesce(meter.totals.image_output_tokens, 0) AS image_output_tokens,
    coalesce(meter.totals.characters, 0) AS characters,
    coalesce(meter.totals.audio_us, 0) AS audio_us,
    coalesce(meter.totals.session_us, 0) AS session_us,
    coalesce(meter.totals.other_tokens, 0) AS other_tokens
FROM meters;

-- What could not be booked, and what became of it. Its bytes are in files of the data directory.
CREATE OR REPLACE VIEW dead_letters AS
WITH changed AS (
    SELECT id, arg_max(state, changed_at) AS state, max(changed_at) AS changed_at
    FROM refused_changes
    GROUP BY id
)
SELECT
    r.received_at,
    r.subject,
    r.stream_sequence,
    r.event_index,
    r.reason,
    r.detail,
    NULL::BLOB AS payload,
    r.id,
    r.project,
    r.events,
    coalesce(changed.state, 'open') AS state,
    CASE WHEN changed.state = 'requeued' THEN changed.changed_at END AS requeued_at,
    CASE WHEN changed.state = 'purged' THEN changed.changed_at END AS purged_at,
    r.sha256,
    r.bytes,
    CASE
        WHEN r.file IS NULL THEN 'dropped'
        ELSE coalesce(f.state, 'kept')
    END AS payload_state,
    r.file,
    r.place,
    r.producer_id,
    r.batch_number
FROM refused AS r
LEFT JOIN changed USING (id)
LEFT JOIN (SELECT file, any_value(state) AS state FROM refused_files GROUP BY file) AS f USING (file);

-- One row: what was lost or could not be booked, over the whole ledger. A producer reports running totals,
-- so its highest ones count.
CREATE OR REPLACE VIEW losses AS
WITH producers AS (
    SELECT
        project,
        producer_id,
        max(captured) AS captured,
        max(coalesced) AS coalesced,
        max(dropped) AS dropped,
        max(unattributed) AS unattributed,
        max(unmeasured) AS unmeasured
    FROM producer_reports
    WHERE number > 0  -- what the ledger itself notes of a producer counts nothing
    GROUP BY project, producer_id
),
short AS (
    SELECT
        project,
        session_id,
        max(producer_id) AS producer_id,
        max(unmeasured) AS unmeasured
    FROM session_ends
    WHERE unmeasured > 0
    GROUP BY project, session_id
),
said AS (
    -- the sessions whose end says it are short: they are not counted again
    SELECT
        e.project,
        coalesce(e.producer_id, s.producer_id) AS producer_id,
        sum(e.unmeasured) AS unmeasured
    FROM short AS e
    LEFT JOIN (
        SELECT project, session_id, own.producer_id
        FROM session_starts AS own
        INNER JOIN (SELECT project, session_id FROM short WHERE producer_id IS NULL) AS unsaid
            USING (project, session_id)
    ) AS s USING (project, session_id)
    GROUP BY ALL
)
SELECT
    (SELECT coalesce(sum(events), 0) FROM dead_letters WHERE state = 'open')::BIGINT AS dead_letters,
    (SELECT coalesce(sum(unpriced_rows), 0)::BIGINT FROM session_usage) AS unpriced_rows,
    count(*) FILTER (coalesced + dropped + unattributed + coalesce(producers.unmeasured, 0) > 0)
        AS producers,
    least(coalesce(sum(captured), 0), 9223372036854775807)::BIGINT AS captured,
    least(coalesce(sum(coalesced), 0), 9223372036854775807)::BIGINT AS coalesced,
    least(coalesce(sum(dropped), 0), 9223372036854775807)::BIGINT AS dropped,
    least(coalesce(sum(unattributed), 0), 9223372036854775807)::BIGINT AS unattributed,
    -- NULL: versions that did not note it booked all reports that there are
    CASE
        WHEN count(producers.unmeasured) > 0 OR count(*) = 0 THEN least(
            coalesce(sum(greatest(producers.unmeasured - coalesce(said.unmeasured, 0), 0)), 0),
            9223372036854775807
        )
    END::BIGINT AS unmeasured
FROM producers
LEFT JOIN said USING (project, producer_id);

-- Runs of messages that never reached this ledger. One that came after all has left this view.
CREATE OR REPLACE VIEW gaps AS
SELECT
    stream_created,
    first_sequence,
    last_sequence,                                   -- NULL: nobody knows how many there were
    last_sequence - first_sequence + 1 AS messages,  -- NULL: the same
    noted_at,
    -- left_the_stream, stream_gone, end_lost, unreadable; restored, operations_lost: an older copy of the
    -- ledger lacks what was booked from outboxes since (the numbers are of its snapshots), or operations
    why
FROM stream_gaps
WHERE filled_at IS NULL;

-- One row: which ledger this is, and how far it has booked the stream.
CREATE OR REPLACE VIEW stream AS
SELECT
    ledger_id::VARCHAR AS ledger_id,
    stream_created,                -- the stream's identity; NULL: none was seen yet
    floor,                         -- everything up to it is booked, or is in `gaps`
    above AS booked_above,         -- the runs that are booked above it: JSON, [[first, last], …]
    last_known,                    -- the highest sequence that the stream is known to have had
    trimmed_to,                    -- booked messages up to it were removed to make room
    newest_booked,                 -- the newest booked message; NULL: not known
    newest_stored_at               -- when the server stored it
FROM stream_state, ledger_identity;

-- What was done to the books on purpose, and what it booked, or erased. An operation that reverts another names it.
CREATE OR REPLACE VIEW operations AS
SELECT
    r.operation,
    r.kind,
    r.started_at,
    r.ended_at,
    r.request,
    r.reason,
    r.source,
    r.reverts,
    coalesce(booked.rows, erased.rows, 0) AS rows,
    coalesce(booked.sessions, erased.sessions, 0) AS sessions,
    booked.list_cost,
    booked.cost,
    booked.billed,
    r.stopped_at,
    coalesce(r.left_meters, 0) AS left_meters,
    r.left_why
FROM operation_records AS r
LEFT JOIN (
    SELECT
        operation,
        sum(rows)::BIGINT AS rows,
        count(DISTINCT session_id) AS sessions,
        sum(list_cost) AS list_cost,
        sum(cost) AS cost,
        sum(billed) AS billed
    FROM session_usage
    WHERE operation IS NOT NULL
    GROUP BY operation
) AS booked USING (operation)
LEFT JOIN (
    SELECT operation, sum(rows)::BIGINT AS rows, sum(sessions)::BIGINT AS sessions
    FROM erased_days
    GROUP BY operation
) AS erased USING (operation);

-- How much of which day was erased, and whether its month is closed.
CREATE OR REPLACE VIEW erased AS
SELECT
    e.operation,
    e.day,
    e.sessions,
    e.rows,
    EXISTS (
        SELECT 1 FROM month_closings AS m WHERE m.month = date_trunc('month', e.day)::DATE
    ) AS is_closed
FROM erased_days AS e;

-- By accounting day: how many single rows there are, in the ledger file and in files of sealed days, and how many
-- were removed because they grew too old. Sums have all of them.
CREATE OR REPLACE VIEW detail AS
SELECT
    day,
    sum(rows)::BIGINT AS rows,
    sum(files)::BIGINT AS files,
    sum(bytes)::BIGINT AS bytes,
    sum(removed_rows)::BIGINT AS removed_rows,
    sum(removed_bytes)::BIGINT AS removed_bytes,
    max(removed_at) AS removed_at
FROM (
    SELECT
        day,
        count(*) AS rows,
        0 AS files,
        0 AS bytes,
        0 AS removed_rows,
        0 AS removed_bytes,
        NULL::TIMESTAMP AS removed_at
    FROM bookings
    GROUP BY day
    UNION ALL
    SELECT day, sum(rows), count(*), sum(bytes), 0, 0, NULL FROM sealed_files GROUP BY day
    UNION ALL
    SELECT day, 0, 0, 0, sum(rows), sum(bytes), max(removed_at) FROM removed_detail GROUP BY day
)
GROUP BY day;

-- The months that take no row any more.
CREATE OR REPLACE VIEW closed_months AS
SELECT m.month, m.operation, r.started_at AS closed_at
FROM month_closings AS m
LEFT JOIN operation_records AS r USING (operation);

-- What belongs to a closed month and was booked later, by the operation that did it.
CREATE OR REPLACE VIEW corrections AS
SELECT
    corrects,
    day,
    operation,
    project,
    tenant,
    agent_id,
    modality,
    provider,
    model,
    sum(rows)::BIGINT AS rows,
    sum(list_cost) AS list_cost,
    sum(cost) AS cost,
    sum(billed) AS billed
FROM session_usage
WHERE corrects IS NOT NULL
GROUP BY ALL;

-- Sessions that were taken out of every sum.
CREATE OR REPLACE VIEW voided AS
SELECT project, session_id, operation, uncounted FROM void_marks;

-- What was spent on calls that came to nothing, and on answers that were cut off, as far as sums say it: a row for
-- each session. The amounts overlap, so they are not added up. NULL is what nobody knows; zero is known.
CREATE OR REPLACE VIEW waste AS
WITH cut_off AS (
    -- what was asked for and not reported: a lower bound
    SELECT project, session_id, summed(cost, priced_meters, meters) AS cost
    FROM session_usage
    WHERE estimated AND modality IN ('llm', 'tts') AND corrects IS NULL
    GROUP BY project, session_id
)
SELECT
    s.project,
    s.session_id,
    s.day,
    s.agent_id,
    s.tenant,
    s.outcome,
    s.user_turns,
    s.cost,
    CASE WHEN s.outcome = 'fail' THEN s.cost WHEN s.outcome IS NOT NULL THEN 0 END AS failed_cost,
    CASE WHEN s.user_turns = 0 THEN s.cost WHEN s.user_turns > 0 THEN 0 END AS silent_cost,
    CASE
        WHEN cut_off.session_id IS NOT NULL THEN cut_off.cost
        -- of its own month, as the cost beside it: unknown where all of it came after that was closed
        WHEN s.rows > 0 OR s.cost IS NOT NULL THEN 0
    END AS interrupted_cost,
    s.unpriced_rows
FROM sessions AS s
LEFT JOIN cut_off USING (project, session_id);

-- The cost of the rows that are of some part: NULL where any of these lacks a price, zero where there are none.
CREATE OR REPLACE MACRO summed_if_priced(part, cost, lacks_price) AS CASE
    WHEN NOT coalesce(bool_or(part AND lacks_price), FALSE)
        THEN coalesce(sum(CASE WHEN part THEN cost END), 0)
END;

-- The same of single requests: what was cancelled and reported, and what was asked for ahead and discarded. It is known
-- of sessions whose requests all have rows of their own, at the prices at which they were booked. A row that moves no
-- usage is of no request: its meter was rated anew, for a label that came late or by a price for the whole call.
CREATE OR REPLACE VIEW waste_of_requests AS
WITH kept AS (
    SELECT project, session_id, day, sum(rows) AS rows
    FROM session_usage
    GROUP BY project, session_id, day
),
single AS (
    SELECT
        project,
        session_id,
        day,
        count(*) AS rows,
        bool_and(CASE
            WHEN modality NOT IN ('llm', 'tts', 'realtime') THEN TRUE
            WHEN NOT moves_usage THEN coalesce(cost, 0) = 0
            ELSE requests <= 1 AND cancelled IS NOT NULL OR estimated
        END) AS is_single,
        count(*) FILTER (cancelled) AS cancelled_requests,
        summed_if_priced(cancelled, cost, lacks_price) AS cancelled_cost,
        sum(requests) FILTER (is_preempted)::BIGINT AS preempted_requests,
        summed_if_priced(is_preempted, cost, lacks_price) AS preempted_cost
    FROM (
        SELECT
            *,
            requests <> 0
            OR input_tokens <> 0
            OR output_tokens <> 0
            OR other_tokens <> 0
            OR characters <> 0
            OR audio_us <> 0
            OR session_us <> 0 AS moves_usage,
            unpriced_requests <> 0
            OR unpriced_input_tokens <> 0
            OR unpriced_output_tokens <> 0
            OR unpriced_other_tokens <> 0
            OR unpriced_characters <> 0
            OR unpriced_audio_us <> 0
            OR unpriced_session_us <> 0 AS lacks_price,
            (project, session_id, speech_id) IN (
                SELECT (project, session_id, unnest(from_json(preempted, '["VARCHAR"]')))
                FROM sessions
                WHERE preempted <> '[]'
            ) AS is_preempted
        FROM usage
    )
    GROUP BY project, session_id, day
),
known AS (
    SELECT single.*
    FROM single
    INNER JOIN kept USING (project, session_id, day)
    WHERE single.is_single
        AND single.rows = kept.rows
        AND (project, session_id) NOT IN (
            SELECT (project, session_id)
            FROM session_usage
            WHERE operation IS NOT NULL AND session_id IS NOT NULL
        )
)
SELECT
    s.project,
    s.session_id,
    s.day,
    s.agent_id,
    s.tenant,
    known.cancelled_requests,
    known.cancelled_cost,
    CASE WHEN s.preempted IS NOT NULL AND known.session_id IS NOT NULL
        THEN coalesce(known.preempted_requests, 0)
    END AS preempted_requests,
    CASE WHEN s.preempted IS NOT NULL THEN known.preempted_cost END AS preempted_cost
FROM sessions AS s
LEFT JOIN known USING (project, session_id, day);
