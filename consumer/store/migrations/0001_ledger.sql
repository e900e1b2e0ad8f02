-- The ledger: one row per booking, plus the facts of each session, what could not be booked, and
-- what the producers say of themselves. Rows are only ever added. Times are UTC.

CREATE TABLE bookings (
    occurred_at                   TIMESTAMP NOT NULL,
    booked_at                     TIMESTAMP NOT NULL,
    session_id                    UUID      NOT NULL,
    number                        BIGINT    NOT NULL,  -- of the reading (or the session's end) that was booked
    project                       VARCHAR   NOT NULL,
    agent_id                      VARCHAR   NOT NULL,
    agent_label                   VARCHAR   NOT NULL,
    tenant                        VARCHAR,
    modality                      VARCHAR   NOT NULL,
    provider                      VARCHAR   NOT NULL,
    provider_raw                  VARCHAR   NOT NULL,
    model                         VARCHAR   NOT NULL,
    estimated                     BOOLEAN   NOT NULL,
    -- quantities: what this reading adds to the meter
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
    -- the request that moved the meter, when one did
    request_id                    VARCHAR,
    speech_id                     VARCHAR,
    duration_us                   BIGINT,
    time_to_first_us              BIGINT,
    cancelled                     BOOLEAN,
    -- money: NULL with a reason when there is no price, never zero
    cost                          DECIMAL(18, 9),
    currency                      VARCHAR   NOT NULL,
    unpriced_reason               VARCHAR,
    reported_cost                 DECIMAL(18, 9),
    price_source                  VARCHAR,
    price_version                 VARCHAR,
    price_model                   VARCHAR,
    -- where the reading came from
    producer_id                   VARCHAR   NOT NULL,
    batch_number                  BIGINT    NOT NULL,
    stream_sequence               BIGINT    NOT NULL
);

CREATE TABLE session_starts (
    session_id UUID      NOT NULL,
    project    VARCHAR   NOT NULL,
    agent_id   VARCHAR   NOT NULL,
    tenant     VARCHAR,
    started_at TIMESTAMP NOT NULL,
    job_id     VARCHAR   NOT NULL,
    room_name  VARCHAR   NOT NULL,
    room_sid   VARCHAR   NOT NULL,
    worker_id  VARCHAR   NOT NULL,
    deployment VARCHAR   NOT NULL,
    fake_job   BOOLEAN   NOT NULL,
    labels     JSON      NOT NULL
);

CREATE TABLE session_ends (
    session_id UUID      NOT NULL,
    number     BIGINT    NOT NULL,
    project    VARCHAR   NOT NULL,
    agent_id   VARCHAR   NOT NULL,
    tenant     VARCHAR,
    ended_at   TIMESTAMP NOT NULL,
    status     VARCHAR   NOT NULL,
    reason     VARCHAR   NOT NULL,
    meters     BIGINT    NOT NULL,  -- how many meters the end carried
    readings   BIGINT    NOT NULL,  -- how many readings the producer made before it
    coalesced  BIGINT    NOT NULL
);

CREATE TABLE producer_reports (
    producer_id   VARCHAR   NOT NULL,
    number        BIGINT    NOT NULL,
    project       VARCHAR   NOT NULL,
    reported_at   TIMESTAMP NOT NULL,
    captured      BIGINT    NOT NULL,
    coalesced     BIGINT    NOT NULL,
    dropped       BIGINT    NOT NULL,
    unattributed  BIGINT    NOT NULL,
    outbox_rows   BIGINT    NOT NULL,
    outbox_bytes  BIGINT    NOT NULL,
    oldest_age_us BIGINT    NOT NULL
);

-- What could not be booked: nothing is thrown away. `event_index` is the place inside the batch,
-- -1 when the whole message was unreadable.
CREATE TABLE dead_letters (
    received_at     TIMESTAMP NOT NULL,
    subject         VARCHAR   NOT NULL,
    stream_sequence BIGINT    NOT NULL,
    event_index     INTEGER   NOT NULL,
    reason          VARCHAR   NOT NULL,  -- a short stable code
    detail          VARCHAR   NOT NULL,  -- what exactly was wrong
    payload         BLOB      NOT NULL
);

-- One row: which moment this database speaks of.
CREATE TABLE ledger_state (
    as_of            TIMESTAMP NOT NULL,  -- everything received until then is in here
    stream_sequence  BIGINT    NOT NULL,  -- highest one booked
    snapshot         BIGINT    NOT NULL   -- number of the last published snapshot
);
INSERT INTO ledger_state VALUES (TIMESTAMP '1970-01-01', 0, 0);
