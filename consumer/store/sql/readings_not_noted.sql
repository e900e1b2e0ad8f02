-- The readings of some rows that are not noted to have come.
SELECT DISTINCT own.project, own.session_id::VARCHAR, own.number
FROM detail AS own
LEFT JOIN session_readings AS noted
    ON noted.session_id = own.session_id
    AND noted.project = own.project
    AND own.number BETWEEN noted.first_number AND noted.last_number
WHERE own.session_id IS NOT NULL AND noted.session_id IS NULL
ORDER BY own.session_id, own.number
LIMIT $most
