-- By day: how many rows are in sums, how many single rows of these there are, and how many were removed on purpose.
SELECT
    day,
    sum(folded)::BIGINT,
    sum(hot)::BIGINT,
    sum(sealed)::BIGINT,
    sum(removed)::BIGINT,
    bool_or(is_erased)
FROM (
    SELECT day, rows AS folded, 0 AS hot, 0 AS sealed, 0 AS removed, FALSE AS is_erased FROM folded_usage
    UNION ALL
    SELECT day, 0, 1, 0, 0, FALSE FROM bookings WHERE place <= (SELECT folded_to FROM fold_state)
    UNION ALL
    SELECT day, 0, 0, rows, 0, FALSE FROM sealed_files
    UNION ALL
    SELECT day, 0, 0, 0, rows, FALSE FROM removed_detail
    UNION ALL
    SELECT day, 0, 0, 0, 0, TRUE FROM erased_days
)
GROUP BY day
ORDER BY day
