-- The sessions after an id that a re-rating is about, in the order of their ids. Of a column without
-- values every one is meant. The caller looks at each meter once more.
SELECT DISTINCT project, session_id::VARCHAR AS id
FROM session_usage
WHERE session_id > $after::UUID
    AND session_id >= $first::UUID
    AND session_id < $until::UUID
    AND (len($projects::VARCHAR[]) = 0 OR project IN (SELECT unnest($projects::VARCHAR[])))
    AND (len($agents::VARCHAR[]) = 0 OR agent_id IN (SELECT unnest($agents::VARCHAR[])))
    AND (
        len($modalities::VARCHAR[]) = 0 OR modality IN (SELECT unnest($modalities::VARCHAR[]))
    )
    AND (len($providers::VARCHAR[]) = 0 OR provider IN (SELECT unnest($providers::VARCHAR[])))
    AND (len($models::VARCHAR[]) = 0 OR model IN (SELECT unnest($models::VARCHAR[])))
    AND (NOT $unpriced OR unpriced_rows > 0)
ORDER BY id, project;
