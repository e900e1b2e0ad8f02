-- Money that came after the month of a call was closed is in `corrections`, and in no sum of `sessions`: calls that
-- have some are settled once more.
CREATE TEMP TABLE corrected AS
SELECT project, session_id
FROM settled_sessions
WHERE (project, session_id) IN (
    SELECT (project, session_id) FROM folded_usage WHERE corrects IS NOT NULL
    UNION ALL
    SELECT (project, session_id) FROM bookings WHERE corrects IS NOT NULL
);
INSERT INTO pending_sessions SELECT project, session_id FROM corrected ORDER BY session_id, project;
DELETE FROM settled_sessions
WHERE (project, session_id) IN (SELECT (project, session_id) FROM corrected);
DROP TABLE corrected;
