-- How much of which day is erased: it is known before the first row goes.
INSERT INTO erased_days
SELECT $number, day, sum(sessions)::BIGINT, sum(rows)::BIGINT
FROM (
    SELECT day, 1 AS sessions, 0 AS rows
    FROM session_identities
    WHERE tenant = $tenant AND ($project IS NULL OR project = $project)
    UNION ALL
    SELECT day, 0, rows
    FROM session_usage
    WHERE tenant = $tenant AND ($project IS NULL OR project = $project)
)
GROUP BY day
ORDER BY day;
