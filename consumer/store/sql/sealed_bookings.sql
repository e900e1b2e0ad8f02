UNION ALL BY NAME
SELECT *
FROM read_parquet(
    list_transform(
        [$files], lambda file: coalesce(getvariable('costs_dir'), folder) || '/' || file
    ),
    hive_partitioning = TRUE,
    hive_types = {'day': DATE}
)
