-- The rows that correct a closed month, with the day on which their session began: they are dated on another one.
CREATE TEMP TABLE late_rows AS
SELECT
    *,
    coalesce(make_timestamp(epoch_us(uuid_extract_timestamp(session_id)))::DATE, day) AS own_day
FROM (
    SELECT * FROM old.main.bookings
    UNION ALL BY NAME
    $files
)
WHERE corrects IS NOT NULL
