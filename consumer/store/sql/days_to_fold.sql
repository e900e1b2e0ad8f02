-- The days on which sessions began, and how many rows they have, about.
SELECT day, sum(rows)::BIGINT
FROM (
    SELECT day, count(*) AS rows FROM old.main.bookings GROUP BY day
    UNION ALL
    SELECT day, rows FROM sealed_files
    UNION ALL
    SELECT own_day, count(*) FROM late_rows GROUP BY own_day
    UNION ALL
    SELECT unnest($taken_over), 0
)
GROUP BY day
ORDER BY day
