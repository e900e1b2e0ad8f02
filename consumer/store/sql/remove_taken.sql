-- Remove the rows of `folded_months` of which nothing is left: all that had their keys was erased.
DELETE FROM folded_months
WHERE rowid IN (
    SELECT place
    FROM (
        SELECT
            kept.rowid AS place,
            sum(kept.rows) OVER (
                PARTITION BY
                    kept.month,
                    kept.project,
                    kept.agent_id,
                    kept.tenant,
                    kept.agent_label,
                    kept.modality,
                    kept.provider,
                    kept.model,
                    kept.estimated,
                    kept.service_tier,
                    kept.operation,
                    kept.corrects
            ) AS left_rows
        FROM folded_months AS kept
        SEMI JOIN (SELECT DISTINCT month, project, agent_id, tenant FROM folded_months WHERE rows < 0) AS taken
            ON kept.month IS NOT DISTINCT FROM taken.month
            AND kept.project = taken.project
            AND kept.agent_id = taken.agent_id
            AND kept.tenant IS NOT DISTINCT FROM taken.tenant
    )
    WHERE left_rows = 0
)
