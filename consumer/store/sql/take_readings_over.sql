-- And which readings of their sessions came.
INSERT INTO session_readings BY NAME
SELECT *
FROM old.main.session_readings
WHERE (project, session_id) IN (
    SELECT (project, session_id) FROM old.main.folded_usage WHERE day = $day AND session_id IS NOT NULL
)
ORDER BY session_id, project, first_number
