-- How many rows of a file are of others, and their sum.
SELECT count(*), sum(hash(r))
FROM (
    SELECT *
    FROM read_parquet($source, hive_partitioning = FALSE)
    WHERE NOT coalesce(tenant = $tenant AND ($project IS NULL OR project = $project), FALSE)
        AND coalesce((project, session_id) NOT IN (SELECT project, session_id FROM erasing), TRUE)
) AS r;
