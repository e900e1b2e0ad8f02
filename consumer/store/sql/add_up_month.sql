-- What the rows of `folded_months` of a month add up to: one row of each of their keys. What was erased leaves none.
CREATE OR REPLACE TEMP TABLE month_anew AS
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
    sum(
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
                month,
                unpriced_reason,
                unpriced_place,
                is_compact
            )
        )
    ),
    arg_max(unpriced_reason, unpriced_place) AS unpriced_reason,
    max(unpriced_place) AS unpriced_place,
    TRUE AS is_compact
FROM folded_months
WHERE month IS NOT DISTINCT FROM $month
GROUP BY ALL
HAVING sum(rows) <> 0
