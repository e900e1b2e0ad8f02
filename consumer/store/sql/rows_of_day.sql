-- The rows of the sessions that began on a day, and of that day of no session, for what adds up `bookings`: all rows of
-- a session at once, as they were booked. Left out are those that are in sums which are taken over.
CREATE OR REPLACE TEMP TABLE bookings AS
SELECT *
FROM (
    SELECT * FROM old.main.bookings WHERE day = $day AND corrects IS NULL
    UNION ALL BY NAME
    SELECT * FROM ($files) WHERE corrects IS NULL
    UNION ALL BY NAME
    SELECT * EXCLUDE (own_day) FROM late_rows WHERE own_day = $day
)
WHERE coalesce(hash(session_id), 0) % $parts = $part
    AND NOT (
        list_contains($taken_over, day) AND place <= (SELECT folded_to FROM old.main.fold_state)
    )
