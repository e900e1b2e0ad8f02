-- What the ledger noted of a session beside its bookings: enough to say of every session whether
-- it is whole. Written only where something is out of the ordinary, so it stays small. A session of
-- which something was booked is in here, or in session_starts, or in session_ends.

CREATE TABLE session_notes (
    session_id  UUID      NOT NULL,
    number      BIGINT    NOT NULL,  -- of the reading or end it speaks of; 0 when it has none
    reason      VARCHAR   NOT NULL,  -- see below
    occurred_at TIMESTAMP,           -- when the event says it happened; NULL when it cannot be read
    at_most     DECIMAL(18, 9),      -- money that may be missing for it; NULL when nobody can say
    producer_id VARCHAR   NOT NULL
);
-- no_start         something of a session came, and its start had not
-- nothing_new      a reading that arrived and moved nothing: a later one had been booked
-- after_end        readings came that the producer made after the end of that number
-- contradicts_end  the ledger holds something else than the end says, and not because it is later
-- any other        the reason of the dead letter that a reading or an end of the session became

ALTER TABLE session_starts ADD COLUMN producer_id VARCHAR;  -- NULL: an older version did not note it

-- What older versions did not note. Their dead letters do not say which reading they are, so they
-- may be any; a reading that moved nothing is not known, and counts as not arrived.
INSERT INTO session_notes
SELECT DISTINCT whose::UUID, 0, reason, NULL::TIMESTAMP, NULL::DECIMAL(18, 9), ''
FROM (
    SELECT
        reason,
        unnest(regexp_extract_all(
            payload::VARCHAR,
            'session_id[^-]{0,8}?([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})',
            1
        )) AS whose
    FROM dead_letters
    WHERE reason IN ('backwards', 'out_of_range', 'invalid_event')
);

INSERT INTO session_notes
SELECT DISTINCT session_id, ended, 'after_end', NULL::TIMESTAMP, NULL::DECIMAL(18, 9), ''
FROM bookings
INNER JOIN (SELECT session_id, max(number) AS ended FROM session_ends GROUP BY session_id)
    USING (session_id)
WHERE number > ended;

INSERT INTO session_notes
SELECT session_id, 0, 'no_start', NULL::TIMESTAMP, NULL::DECIMAL(18, 9), any_value(producer_id)
FROM bookings
ANTI JOIN session_starts USING (session_id)
ANTI JOIN session_ends USING (session_id)
GROUP BY session_id;
