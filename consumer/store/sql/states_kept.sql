-- In which state the settled sessions of a span of ids are, as it is kept: the columns of `states_worked_out`.
SELECT
    project,
    session_id,
    state,
    cause,
    last_seen_at,
    readings_made,
    readings_arrived,
    readings_coalesced,
    own_cost AS cost,
    missing_at_most,
    unmeasured
FROM settled_sessions
WHERE state IS NOT NULL AND session_id BETWEEN $first_id::UUID AND $last_id::UUID
