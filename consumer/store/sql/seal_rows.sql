-- Write the rows of a day in a span of places to a file.
COPY (
    SELECT *
    FROM bookings
    WHERE day = $day AND place BETWEEN $first AND $last
    ORDER BY tenant, agent_id, session_id, place
)
TO $file (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE FALSE);
