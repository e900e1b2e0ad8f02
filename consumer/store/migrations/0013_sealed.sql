-- The detail of days that are over, in files of their own: `consumer/store/sealing.py`. Rows are in `bookings`
-- or in one of these files, never in both, and always in the sums of `folded_usage`.
CREATE TABLE sealed_files (
    day         DATE      NOT NULL,
    file        VARCHAR   NOT NULL,  -- its path in the data directory
    rows        BIGINT    NOT NULL,
    first_place BIGINT    NOT NULL,
    last_place  BIGINT    NOT NULL,
    bytes       BIGINT    NOT NULL,
    sha256      VARCHAR   NOT NULL,
    version     BIGINT    NOT NULL,  -- of the schema: it says which columns the file has
    sealed_at   TIMESTAMP NOT NULL
);
