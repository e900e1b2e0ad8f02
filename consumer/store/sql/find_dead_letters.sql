-- The letters that are still open, of some reasons or with some ids, received before a moment. An id may
-- be given by its beginning.
SELECT
    id, subject, stream_sequence, event_index, reason, producer_id, batch_number, bytes, file, place
FROM refused
ANTI JOIN refused_changes USING (id)
WHERE (reason IN (SELECT unnest(string_split($reasons, chr(10)))) OR $reasons = '')
    AND (
        $ids = ''
        OR EXISTS (
            SELECT 1
            FROM (SELECT unnest(string_split($ids, chr(10))) AS wanted)
            WHERE starts_with(refused.id, wanted)
        )
    )
    AND received_at < make_timestamp($before)
ORDER BY stream_sequence, event_index;
