-- Keep what the sessions in `settling` came to, and what their meters stand at: one JSON list of project, id
-- and the packed state in base64 a line. One that is open all the same stays pending.
INSERT INTO settled_sessions
SELECT
    own.project,
    own.session_id,
    coalesce(facts.agent_id, state.agent_id),
    coalesce(facts.tenant, state.tenant),
    coalesce(facts.day, state.day),
    facts.started_at,
    facts.ended_at,
    facts.status,
    facts.reason,
    facts.first_usage_at,
    facts.last_usage_at,
    facts.cost,
    facts.stt_cost,
    facts.llm_cost,
    facts.tts_cost,
    facts.realtime_cost,
    facts.estimated_cost,
    facts.unpriced_rows,
    facts.rows,
    facts.job_id,
    facts.room_name,
    facts.room_sid,
    facts.worker_id,
    facts.deployment,
    facts.fake_job,
    facts.labels,
    facts.list_cost,
    facts.billed,
    facts.session_id IS NOT NULL,
    state.state,
    state.cause,
    state.last_seen_at,
    state.readings_made,
    state.readings_arrived,
    state.readings_coalesced,
    state.cost,
    state.missing_at_most,
    state.unmeasured,
    from_base64(kept.packed),
    facts.outcome,
    facts.tags,
    facts.tags_cut,
    facts.user_turns,
    facts.preempted
FROM settling AS own
LEFT JOIN (
    SELECT line[1] AS project, line[2]::UUID AS session_id, line[3] AS packed
    FROM (
        SELECT from_json(text, '["VARCHAR"]') AS line
        FROM (SELECT unnest(string_split($kept, chr(10))) AS text)
    )
) AS kept USING (project, session_id)
LEFT JOIN facts_of_pending($first_id::UUID, $last_id::UUID) AS facts USING (project, session_id)
LEFT JOIN completeness_of_pending(
    make_timestamp($moment), to_days($quiet_days), $first_id::UUID, $last_id::UUID
) AS state
    ON state.session_id = own.session_id AND coalesce(state.project, '') = own.project
WHERE state.state IS DISTINCT FROM 'open'
ORDER BY own.session_id, own.project
RETURNING project, session_id::VARCHAR;
