-- How many of the rows of a file are in `bookings` as well, and how many there are.
SELECT count(kept.place), count(*)
FROM read_parquet($file, hive_partitioning = FALSE) AS written
LEFT JOIN bookings AS kept
    ON kept.place = written.place
    AND kept.day = written.day
    AND kept.booked_at = written.booked_at
    AND kept.session_id IS NOT DISTINCT FROM written.session_id
    AND kept.number = written.number;
