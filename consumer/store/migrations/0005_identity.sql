-- The class of a meter's requests is part of the meter: see `SIZE_TIERS` in the event contract. Tokens
-- that only a provider's total has are a quantity of their own.
ALTER TABLE bookings ADD COLUMN size_tier BIGINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN service_tier VARCHAR DEFAULT '';
ALTER TABLE bookings ADD COLUMN other_tokens BIGINT DEFAULT 0;

-- The accounting day: the UTC day of the time inside the session's id. It is never NULL; DuckDB has no
-- way to add a column that says so to a table with rows.
ALTER TABLE bookings ADD COLUMN day DATE;

-- How much of the meter has no price since this row, by difference: it falls when a price is found.
ALTER TABLE bookings ADD COLUMN unpriced_requests BIGINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN unpriced_input_tokens BIGINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN unpriced_output_tokens BIGINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN unpriced_other_tokens BIGINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN unpriced_characters BIGINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN unpriced_audio_us BIGINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN unpriced_session_us BIGINT DEFAULT 0;

-- A row of an older version with a reason: all that it moved.
UPDATE bookings
SET
    day = make_timestamp(epoch_us(uuid_extract_timestamp(session_id)))::DATE,
    unpriced_requests = CASE WHEN unpriced_reason IS NULL THEN 0 ELSE requests END,
    unpriced_input_tokens = CASE WHEN unpriced_reason IS NULL THEN 0 ELSE input_tokens END,
    unpriced_output_tokens = CASE WHEN unpriced_reason IS NULL THEN 0 ELSE output_tokens END,
    unpriced_characters = CASE WHEN unpriced_reason IS NULL THEN 0 ELSE characters END,
    unpriced_audio_us = CASE WHEN unpriced_reason IS NULL THEN 0 ELSE audio_us END,
    unpriced_session_us = CASE WHEN unpriced_reason IS NULL THEN 0 ELSE session_us END;

-- Whose a session is: (project, session_id) is the session, and its first event says the rest. Later
-- events do not change it. There is a row of every session in `bookings`, `session_starts` and
-- `session_ends`.
CREATE TABLE session_identities (
    project     VARCHAR NOT NULL,
    session_id  UUID    NOT NULL,
    day         DATE    NOT NULL,  -- the accounting day, as in `bookings`
    agent_id    VARCHAR NOT NULL,
    tenant      VARCHAR,
    producer_id VARCHAR            -- NULL: an older version did not note it, and any may continue
);

INSERT INTO session_identities
SELECT
    project,
    session_id,
    make_timestamp(epoch_us(uuid_extract_timestamp(session_id)))::DATE,
    arg_min(said, place).agent_id,
    arg_min(said, place).tenant,
    arg_min(producer_id, place)
FROM (
    SELECT
        project,
        session_id,
        {'agent_id': agent_id, 'tenant': tenant} AS said,
        producer_id,
        -1 AS place
    FROM session_starts
    UNION ALL
    SELECT project, session_id, {'agent_id': agent_id, 'tenant': tenant}, producer_id, number
    FROM bookings
    UNION ALL
    SELECT project, session_id, {'agent_id': agent_id, 'tenant': tenant}, producer_id, number
    FROM session_ends
)
GROUP BY project, session_id
ORDER BY session_id, project;

ALTER TABLE session_notes ADD COLUMN project VARCHAR;       -- '': an older version could not tell
ALTER TABLE session_notes ADD COLUMN received_at TIMESTAMP; -- by the ledger's clock; NULL in old rows
ALTER TABLE session_starts ADD COLUMN received_at TIMESTAMP;

UPDATE session_notes AS n
SET project = coalesce(
    (SELECT min(i.project) FROM session_identities AS i WHERE i.session_id = n.session_id), ''
);

-- Further reasons of notes; each makes the session short, whatever its end says.
-- other_tenant    an event named another tenant: it is booked under the first one
-- other_agent     an event named another agent: it is booked under the first one
-- other_producer  another producer reported the session: a count of its own, in no row
-- other_project   older versions only: another project's events were merged with the session's
-- What older versions booked stays where they booked it.
INSERT INTO session_notes
WITH said AS (
    SELECT project, session_id, agent_id, tenant, producer_id FROM bookings
    UNION
    SELECT project, session_id, agent_id, tenant, producer_id FROM session_ends
),
found AS (
    SELECT
        said.project,
        said.session_id,
        unnest([
            CASE WHEN said.tenant IS DISTINCT FROM i.tenant THEN 'other_tenant' END,
            CASE WHEN said.agent_id <> i.agent_id THEN 'other_agent' END,
            CASE WHEN said.producer_id <> i.producer_id THEN 'other_producer' END
        ]) AS reason
    FROM said
    INNER JOIN session_identities AS i USING (project, session_id)
    UNION ALL
    SELECT project, session_id, 'other_project'
    FROM session_identities
    WHERE session_id IN (
        SELECT session_id FROM session_identities GROUP BY session_id HAVING count(*) > 1
    )
)
SELECT DISTINCT
    session_id,
    0,
    reason,
    NULL::TIMESTAMP,
    CASE WHEN reason IN ('other_tenant', 'other_agent') THEN 0 END::DECIMAL(18, 9),
    '',
    project,
    NULL::TIMESTAMP
FROM found
WHERE reason IS NOT NULL;

-- How many calls a producer had when it reported, and whether it was its last report. NULL: it did not
-- say.
ALTER TABLE producer_reports ADD COLUMN live_sessions BIGINT;
ALTER TABLE producer_reports ADD COLUMN ended BOOLEAN;
