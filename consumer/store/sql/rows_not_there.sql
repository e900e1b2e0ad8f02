-- Rows are numbered as they are booked: the numbers behind the folded rows that no row has.
SELECT place
FROM (
    SELECT unnest(range((SELECT folded_to + 1 FROM fold_state), (SELECT max(place) FROM bookings))) AS place
)
ANTI JOIN bookings USING (place)
WHERE NOT EXISTS (SELECT 1 FROM erasures)
ORDER BY place
LIMIT $most
