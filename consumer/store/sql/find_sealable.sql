-- The days that may be sealed, and how many rows of them are in the ledger file.
SELECT day, count(*)
FROM bookings
WHERE day <= make_timestamp($begun_before)::DATE
GROUP BY day
HAVING max(booked_at) <= make_timestamp($booked_before) AND count(*) >= $least
ORDER BY day;
