-- The sums of the same days.
CREATE OR REPLACE TEMP TABLE folded AS
SELECT *
FROM folded_usage
WHERE day BETWEEN $first AND $last
    AND coalesce(hash(session_id), 0) % $parts = $part
    AND NOT list_contains($left_out, day)
