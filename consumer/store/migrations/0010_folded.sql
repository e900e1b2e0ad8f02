-- Answers that do not depend on how much history there is: what the rows of a meter add up to, and what
-- a session came to, are kept as rows of their own.

-- In which order rows were booked, and whether a row is the first one of its session.
ALTER TABLE bookings ADD COLUMN place BIGINT;
ALTER TABLE bookings ADD COLUMN opens BOOLEAN DEFAULT FALSE;
UPDATE bookings SET place = rowid + 1;
UPDATE bookings
SET opens = TRUE
WHERE place IN (
    SELECT min(place)
    FROM bookings
    WHERE session_id IS NOT NULL AND operation IS NULL
    GROUP BY project, session_id
);

-- Rows of one meter that agree in their day and provider, in the operation that they belong to and in the prices that
-- rated them, added up; a meter may have several. Rows of `bookings` behind `folded_to` are not in here:
-- the view `session_usage` has both.
CREATE TABLE folded_usage (
    project                       VARCHAR   NOT NULL,
    session_id                    UUID,
    day                           DATE,
    agent_id                      VARCHAR   NOT NULL,
    tenant                        VARCHAR,
    agent_label                   VARCHAR   NOT NULL,
    modality                      VARCHAR   NOT NULL,
    provider                      VARCHAR   NOT NULL,
    model                         VARCHAR   NOT NULL,
    estimated                     BOOLEAN   NOT NULL,
    size_tier                     BIGINT    NOT NULL,
    service_tier                  VARCHAR   NOT NULL,
    operation                     BIGINT,
    price_id                      BIGINT,
    corrects                      DATE,
    provider_raw                  VARCHAR   NOT NULL,
    -- of the last row
    currency                      VARCHAR   NOT NULL,
    price_source                  VARCHAR,
    price_version                 VARCHAR,
    price_model                   VARCHAR,
    unpriced_reason               VARCHAR,  -- of the last row that has one
    unbilled_reason               VARCHAR,
    -- the rows
    first_place                   BIGINT    NOT NULL,
    last_place                    BIGINT    NOT NULL,
    number                        BIGINT    NOT NULL,  -- the highest one
    first_at                      TIMESTAMP NOT NULL,
    last_at                       TIMESTAMP NOT NULL,
    booked_at                     TIMESTAMP NOT NULL,  -- the last one
    first_unpriced_at             TIMESTAMP,  -- of those that have a reason
    last_unpriced_at              TIMESTAMP,
    first_sequence                BIGINT    NOT NULL,
    sessions                      BIGINT    NOT NULL,  -- 1 where the session's first row is among them
    rows                          BIGINT    NOT NULL,
    unpriced_rows                 BIGINT    NOT NULL,
    priced_rows                   BIGINT    NOT NULL,
    listed_rows                   BIGINT    NOT NULL,
    billed_rows                   BIGINT    NOT NULL,
    -- sums
    cost                          DECIMAL(18, 9),
    list_cost                     DECIMAL(18, 9),
    billed                        DECIMAL(18, 9),
    reported_cost                 DECIMAL(18, 9),
    requests                      BIGINT    NOT NULL,
    large_requests                BIGINT    NOT NULL,
    input_tokens                  BIGINT    NOT NULL,
    cache_read_input_tokens       BIGINT    NOT NULL,
    cache_creation_input_tokens   BIGINT    NOT NULL,
    text_input_tokens             BIGINT    NOT NULL,
    audio_input_tokens            BIGINT    NOT NULL,
    image_input_tokens            BIGINT    NOT NULL,
    text_cache_read_input_tokens  BIGINT    NOT NULL,
    audio_cache_read_input_tokens BIGINT    NOT NULL,
    image_cache_read_input_tokens BIGINT    NOT NULL,
    output_tokens                 BIGINT    NOT NULL,
    reasoning_output_tokens       BIGINT    NOT NULL,
    text_output_tokens            BIGINT    NOT NULL,
    audio_output_tokens           BIGINT    NOT NULL,
    image_output_tokens           BIGINT    NOT NULL,
    characters                    BIGINT    NOT NULL,
    audio_us                      BIGINT    NOT NULL,
    session_us                    BIGINT    NOT NULL,
    other_tokens                  BIGINT    NOT NULL,
    unpriced_requests             BIGINT    NOT NULL,
    unpriced_input_tokens         BIGINT    NOT NULL,
    unpriced_output_tokens        BIGINT    NOT NULL,
    unpriced_other_tokens         BIGINT    NOT NULL,
    unpriced_characters           BIGINT    NOT NULL,
    unpriced_audio_us             BIGINT    NOT NULL,
    unpriced_session_us           BIGINT    NOT NULL
);

-- One row: the last row of `bookings` that is folded.
CREATE TABLE fold_state (folded_to BIGINT NOT NULL);
INSERT INTO fold_state VALUES (0);

-- Which readings of a session are among the folded rows: runs of their numbers, which may overlap.
CREATE TABLE session_readings (
    project      VARCHAR NOT NULL,
    session_id   UUID    NOT NULL,
    first_number BIGINT  NOT NULL,
    last_number  BIGINT  NOT NULL
);

-- What a session came to: a row of the views `sessions` and `completeness` of every session that is
-- settled. One that something comes for leaves this table, in the same transaction, and is settled anew.
CREATE TABLE settled_sessions (
    project            VARCHAR NOT NULL,
    session_id         UUID    NOT NULL,
    agent_id           VARCHAR,
    tenant             VARCHAR,
    day                DATE,
    started_at         TIMESTAMP,
    ended_at           TIMESTAMP,
    status             VARCHAR,
    reason             VARCHAR,
    first_usage_at     TIMESTAMP,
    last_usage_at      TIMESTAMP,
    cost               DECIMAL(38, 9),
    stt_cost           DECIMAL(38, 9),
    llm_cost           DECIMAL(38, 9),
    tts_cost           DECIMAL(38, 9),
    realtime_cost      DECIMAL(38, 9),
    estimated_cost     DECIMAL(38, 9),
    unpriced_rows      BIGINT,
    rows               BIGINT,
    job_id             VARCHAR,
    room_name          VARCHAR,
    room_sid           VARCHAR,
    worker_id          VARCHAR,
    deployment         VARCHAR,
    fake_job           BOOLEAN,
    labels             JSON,
    list_cost          DECIMAL(38, 9),
    billed             DECIMAL(38, 9),
    is_identified      BOOLEAN NOT NULL,  -- FALSE: nothing but a note; no row of the view `sessions`
    -- of the view `completeness`; `state` is NULL where the session is in no sum
    state              VARCHAR,
    cause              VARCHAR,
    last_seen_at       TIMESTAMP,
    readings_made      BIGINT,
    readings_arrived   BIGINT,
    readings_coalesced BIGINT,
    own_cost           DECIMAL(38, 9),
    missing_at_most    DECIMAL(38, 9),
    unmeasured         BIGINT
);

-- The sessions that are not settled: those that go on, and those that something has come for.
CREATE TABLE pending_sessions (
    project    VARCHAR NOT NULL,
    session_id UUID    NOT NULL
);
INSERT INTO pending_sessions
SELECT project, session_id FROM session_identities
UNION
SELECT project, session_id FROM session_notes
ORDER BY session_id, project;
