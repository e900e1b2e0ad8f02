-- Prices that are used for the first time, one JSON object a line.
INSERT INTO prices_used
SELECT
    entry.price_id,
    make_timestamp($booked_at),
    entry.terms
FROM (
    SELECT from_json(line, '{"price_id": "BIGINT", "terms": "VARCHAR"}') AS entry
    FROM (SELECT unnest(string_split($lines, chr(10))) AS line)
);
