-- The same, as it is kept.
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
