UNION ALL BY NAME
SELECT *
FROM read_parquet(
    list_transform(
        [$files],
        -- the folder is no pattern, whatever its name
        lambda file: regexp_replace(
            coalesce(getvariable('costs_dir'), folder), '([*?[])', '[\1]', 'g'
        ) || '/' || file
    ),
    -- a folder above that is named like `tenant=acme` would be a column as well
    hive_partitioning = NOT contains(coalesce(getvariable('costs_dir'), folder), '='),
    hive_types_autocast = TRUE
)
