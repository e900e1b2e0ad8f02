-- Which files of sealed days, all of one version, have rows of a tenant or of its sessions.
SELECT DISTINCT filename
FROM read_parquet($files, hive_partitioning = FALSE, filename = TRUE)
WHERE coalesce(tenant = $tenant AND ($project IS NULL OR project = $project), FALSE)
    OR (project, session_id) IN (SELECT project, session_id FROM erasing)
ORDER BY filename;
