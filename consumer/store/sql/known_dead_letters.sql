-- Which of some dead letters are there already. The place in the stream rises with the rows.
SELECT DISTINCT id
FROM refused
WHERE stream_sequence BETWEEN $first_sequence AND $last_sequence
    AND id IN (SELECT unnest(string_split($ids, chr(10))));
