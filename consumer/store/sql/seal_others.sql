-- Write the rows of a file that are of others to another file.
COPY (
    SELECT *
    FROM read_parquet($source, hive_partitioning = FALSE)
    WHERE NOT coalesce(tenant = $tenant AND ($project IS NULL OR project = $project), FALSE)
        AND coalesce((project, session_id) NOT IN (SELECT project, session_id FROM erasing), TRUE)
    ORDER BY tenant, agent_id, session_id, place
)
TO $file (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE FALSE);
