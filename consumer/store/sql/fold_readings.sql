-- Note which readings are among the rows in a span of places, as runs of their numbers.
INSERT INTO session_readings
WITH numbered AS (
    SELECT DISTINCT project, session_id, number
    FROM bookings
    WHERE place > $after AND place <= $upto AND session_id IS NOT NULL
),
whole AS (
    SELECT project, session_id, min(number) AS first_number, max(number) AS last_number
    FROM numbered
    GROUP BY project, session_id
    HAVING count(*) = max(number) - min(number) + 1
)
SELECT project, session_id, first_number, last_number
FROM (
    SELECT * FROM whole
    UNION ALL
    SELECT project, session_id, min(number), max(number)
    FROM (
        SELECT
            project,
            session_id,
            number,
            number - row_number() OVER (PARTITION BY project, session_id ORDER BY number) AS run
        FROM numbered
        ANTI JOIN whole USING (project, session_id)
    )
    GROUP BY project, session_id, run
)
ORDER BY session_id, project, first_number;
