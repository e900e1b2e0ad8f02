-- Sessions are looked up by their ids, some at a time, with each group of messages. DuckDB decodes a whole segment
-- of packed ids for that, 24,576 of them and 0.2 µs each: ids that are not packed are found in a fifth of the time, and
-- read in a sixth.
ALTER TABLE session_identities RENAME TO packed_session_identities;
CREATE TABLE session_identities (
    project     VARCHAR   NOT NULL,
    session_id  UUID      NOT NULL USING COMPRESSION uncompressed,
    day         DATE      NOT NULL,
    agent_id    VARCHAR   NOT NULL,
    tenant      VARCHAR,
    producer_id VARCHAR
);
INSERT INTO session_identities SELECT * FROM packed_session_identities;
DROP TABLE packed_session_identities;

ALTER TABLE session_starts RENAME TO packed_session_starts;
CREATE TABLE session_starts (
    session_id  UUID      NOT NULL USING COMPRESSION uncompressed,
    project     VARCHAR   NOT NULL,
    agent_id    VARCHAR   NOT NULL,
    tenant      VARCHAR,
    started_at  TIMESTAMP NOT NULL,
    job_id      VARCHAR   NOT NULL,
    room_name   VARCHAR   NOT NULL,
    room_sid    VARCHAR   NOT NULL,
    worker_id   VARCHAR   NOT NULL,
    deployment  VARCHAR   NOT NULL,
    fake_job    BOOLEAN   NOT NULL,
    labels      JSON      NOT NULL,
    producer_id VARCHAR,
    received_at TIMESTAMP
);
INSERT INTO session_starts SELECT * FROM packed_session_starts;
DROP TABLE packed_session_starts;

ALTER TABLE session_ends RENAME TO packed_session_ends;
CREATE TABLE session_ends (
    session_id  UUID      NOT NULL USING COMPRESSION uncompressed,
    number      BIGINT    NOT NULL,
    project     VARCHAR   NOT NULL,
    agent_id    VARCHAR   NOT NULL,
    tenant      VARCHAR,
    ended_at    TIMESTAMP NOT NULL,
    status      VARCHAR   NOT NULL,
    reason      VARCHAR   NOT NULL,
    meters      BIGINT    NOT NULL,
    readings    BIGINT    NOT NULL,
    coalesced   BIGINT    NOT NULL,
    unmeasured  BIGINT,
    producer_id VARCHAR,
    received_at TIMESTAMP,
    outcome     VARCHAR,
    tags        JSON,
    tags_cut    BIGINT,
    user_turns  BIGINT,
    preempted   JSON
);
INSERT INTO session_ends SELECT * FROM packed_session_ends;
DROP TABLE packed_session_ends;

ALTER TABLE session_readings RENAME TO packed_session_readings;
CREATE TABLE session_readings (
    project      VARCHAR   NOT NULL,
    session_id   UUID      NOT NULL USING COMPRESSION uncompressed,
    first_number BIGINT    NOT NULL,
    last_number  BIGINT    NOT NULL
);
INSERT INTO session_readings SELECT * FROM packed_session_readings;
DROP TABLE packed_session_readings;

ALTER TABLE bookings RENAME TO packed_bookings;
CREATE TABLE bookings (
    occurred_at                   TIMESTAMP NOT NULL,
    booked_at                     TIMESTAMP NOT NULL,
    session_id                    UUID USING COMPRESSION uncompressed,
    number                        BIGINT NOT NULL,
    project                       VARCHAR NOT NULL,
    agent_id                      VARCHAR NOT NULL,
    agent_label                   VARCHAR NOT NULL,
    tenant                        VARCHAR,
    modality                      VARCHAR NOT NULL,
    provider                      VARCHAR NOT NULL,
    provider_raw                  VARCHAR NOT NULL,
    model                         VARCHAR NOT NULL,
    estimated                     BOOLEAN NOT NULL,
    requests                      BIGINT NOT NULL,
    large_requests                BIGINT NOT NULL,
    input_tokens                  BIGINT NOT NULL,
    cache_read_input_tokens       BIGINT NOT NULL,
    cache_creation_input_tokens   BIGINT NOT NULL,
    text_input_tokens             BIGINT NOT NULL,
    audio_input_tokens            BIGINT NOT NULL,
    image_input_tokens            BIGINT NOT NULL,
    text_cache_read_input_tokens  BIGINT NOT NULL,
    audio_cache_read_input_tokens BIGINT NOT NULL,
    image_cache_read_input_tokens BIGINT NOT NULL,
    output_tokens                 BIGINT NOT NULL,
    reasoning_output_tokens       BIGINT NOT NULL,
    text_output_tokens            BIGINT NOT NULL,
    audio_output_tokens           BIGINT NOT NULL,
    image_output_tokens           BIGINT NOT NULL,
    characters                    BIGINT NOT NULL,
    audio_us                      BIGINT NOT NULL,
    session_us                    BIGINT NOT NULL,
    request_id                    VARCHAR,
    speech_id                     VARCHAR,
    duration_us                   BIGINT,
    time_to_first_us              BIGINT,
    cancelled                     BOOLEAN,
    cost                          DECIMAL(18,9),
    currency                      VARCHAR NOT NULL,
    unpriced_reason               VARCHAR,
    reported_cost                 DECIMAL(18,9),
    price_source                  VARCHAR,
    price_version                 VARCHAR,
    price_model                   VARCHAR,
    producer_id                   VARCHAR NOT NULL,
    batch_number                  BIGINT NOT NULL,
    stream_sequence               BIGINT NOT NULL,
    size_tier                     BIGINT DEFAULT 0,
    service_tier                  VARCHAR DEFAULT '',
    other_tokens                  BIGINT DEFAULT 0,
    day                           DATE,
    unpriced_requests             BIGINT DEFAULT 0,
    unpriced_input_tokens         BIGINT DEFAULT 0,
    unpriced_output_tokens        BIGINT DEFAULT 0,
    unpriced_other_tokens         BIGINT DEFAULT 0,
    unpriced_characters           BIGINT DEFAULT 0,
    unpriced_audio_us             BIGINT DEFAULT 0,
    unpriced_session_us           BIGINT DEFAULT 0,
    list_cost                     DECIMAL(18,9),
    billed                        DECIMAL(18,9),
    unbilled_reason               VARCHAR,
    price_id                      BIGINT,
    operation                     BIGINT,
    corrects                      DATE,
    place                         BIGINT,
    opens                         BOOLEAN DEFAULT FALSE,
    meters                        TINYINT DEFAULT 0,
    priced_meters                 TINYINT DEFAULT 0,
    listed_meters                 TINYINT DEFAULT 0,
    billed_meters                 TINYINT DEFAULT 0
);
INSERT INTO bookings SELECT * FROM packed_bookings;
DROP TABLE packed_bookings;
