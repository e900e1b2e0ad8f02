-- Leave those of the sessions in `settling` for later that have too many meters to be settled with those
-- before them: what is kept of a session is as long as its meters are many. The first one stays.
DELETE FROM settling
WHERE turn IN (
    SELECT turn
    FROM (
        SELECT turn, sum(rows) OVER (ORDER BY turn) - rows AS rows_before
        FROM (
            SELECT own.turn, count(usage.session_id) AS rows
            FROM settling AS own
            LEFT JOIN folded_usage AS usage
                ON usage.project = own.project
                AND usage.session_id = own.session_id
                AND usage.session_id BETWEEN $first_id::UUID AND $last_id::UUID
            GROUP BY own.turn
        )
    )
    WHERE rows_before >= $rows
);
