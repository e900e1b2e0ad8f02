-- What rows of `folded_usage` add up to by months, or what they take from it: everything that is added up, and what is
-- told of the last row.
INSERT INTO folded_months BY NAME
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
    $sign * sum(
        COLUMNS(
            * EXCLUDE (
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
                session_id,
                day,
                size_tier,
                price_id,
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
                first_sequence
            )
        )
    ),
    $reason AS unpriced_reason,
    $place AS unpriced_place,
    $sign * count(*) FILTER (
        (operation IS NULL OR session_id IS NOT NULL)
        AND (cost IS NOT NULL AND list_cost IS NULL OR priced_meters <> listed_meters)
    ) AS unlisted_rows,
    $sign * count(*) FILTER (
        (operation IS NULL OR session_id IS NOT NULL)
        AND (cost IS NOT NULL AND billed IS NULL OR priced_meters <> billed_meters)
    ) AS unbilled_rows,
    $is_compact AS is_compact
FROM folded_usage
WHERE $which
GROUP BY ALL
ORDER BY month
