-- In which state the settled sessions of `facts_worked_out` are, worked out anew.
SELECT
    coalesce(project, '') AS project,
    session_id,
    state,
    cause,
    last_seen_at,
    readings_made,
    readings_arrived,
    readings_coalesced,
    cost,
    missing_at_most,
    unmeasured
FROM completeness_of_pending(make_timestamp($moment), to_days($quiet_days), $first_id::UUID, $last_id::UUID)
