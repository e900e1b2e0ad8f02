SELECT * FROM read_parquet([$files], hive_partitioning = FALSE, union_by_name = TRUE)
