-- What is not kept: the detail of days that grew too old, and all of a tenant that was erased. The sums of what
-- grew old stay; see `consumer/store/retention.py` and `consumer/store/erasing.py`.

-- Detail that was removed by age: how many rows of a day, and how many bytes of files.
CREATE TABLE removed_detail (
    day        DATE      NOT NULL,
    rows       BIGINT    NOT NULL,
    bytes      BIGINT    NOT NULL,
    removed_at TIMESTAMP NOT NULL
);

-- Files of sealed days that no row of `sealed_files` names: they are removed when no reader can need them.
CREATE TABLE removed_files (
    file       VARCHAR   NOT NULL,  -- its path in the data directory
    snapshot   BIGINT    NOT NULL,  -- the number of the last snapshot that may name it
    removed_at TIMESTAMP NOT NULL
);

-- Tenants that were erased, by a digest: what comes of them later is refused.
CREATE TABLE erasures (
    operation BIGINT  NOT NULL,
    project   VARCHAR,          -- NULL: in every project
    salt      VARCHAR NOT NULL,
    digest    VARCHAR NOT NULL, -- SHA-256 of the salt and the name
    letters   BIGINT  NOT NULL  -- dead letters that were removed
);

-- How much of which day was erased.
CREATE TABLE erased_days (
    operation BIGINT NOT NULL,
    day       DATE   NOT NULL,
    sessions  BIGINT NOT NULL,
    rows      BIGINT NOT NULL
);
