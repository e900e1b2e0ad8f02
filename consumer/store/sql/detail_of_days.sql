-- The single rows of some days that are in sums, in the columns of `folded_usage` and in their order: those of the
-- ledger file, and those of sealed files. Of many rows a part, by their sessions.
CREATE OR REPLACE TEMP TABLE detail AS
SELECT * FROM folded_usage WHERE FALSE
UNION ALL BY NAME
SELECT
    * EXCLUDE (
        occurred_at,
        place,
        opens,
        stream_sequence,
        request_id,
        speech_id,
        duration_us,
        time_to_first_us,
        cancelled,
        producer_id,
        batch_number
    ),
    place AS first_place,
    place AS last_place,
    occurred_at AS first_at,
    occurred_at AS last_at,
    CASE WHEN unpriced_reason IS NOT NULL THEN occurred_at END AS first_unpriced_at,
    CASE WHEN unpriced_reason IS NOT NULL THEN occurred_at END AS last_unpriced_at,
    stream_sequence AS first_sequence,
    opens::BIGINT AS sessions,
    1 AS rows,
    (unpriced_reason IS NOT NULL)::BIGINT AS unpriced_rows
FROM (
    SELECT *
    FROM bookings
    WHERE day BETWEEN $first AND $last AND place <= (SELECT folded_to FROM fold_state)
    UNION ALL BY NAME
    $files
)
WHERE coalesce(hash(session_id), 0) % $parts = $part AND NOT list_contains($left_out, day)
