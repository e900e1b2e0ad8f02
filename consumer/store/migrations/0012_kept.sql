-- What a session's meters stand at while it is settled: found without a look at its rows. All sessions are
-- settled once more for it, by and by. DuckDB decodes a whole column segment to give a few values of it, so the
-- id that a session is looked up by and the state that is found are not compressed.
INSERT INTO pending_sessions
SELECT project, session_id FROM settled_sessions ORDER BY session_id, project;
DROP TABLE settled_sessions;
CREATE TABLE settled_sessions (
    project            VARCHAR NOT NULL,
    session_id         UUID    NOT NULL USING COMPRESSION uncompressed,
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
    unmeasured         BIGINT,
    kept               BLOB USING COMPRESSION uncompressed  -- what its meters stand at, packed
);
