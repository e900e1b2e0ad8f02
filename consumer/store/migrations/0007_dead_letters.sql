-- What could not be booked, without its bytes: they lie in files beside the ledger, so that neither the
-- ledger nor its snapshots grow with them. Rows are only ever added; what became of a letter later is
-- in rows of its own. The view `dead_letters` shows all of it.
ALTER TABLE dead_letters RENAME TO refused;
ALTER TABLE refused ALTER COLUMN payload DROP NOT NULL;  -- of older versions, until it is moved to a file
ALTER TABLE refused ADD COLUMN id VARCHAR;               -- of place and bytes: the same letter has the same
ALTER TABLE refused ADD COLUMN project VARCHAR;          -- the project's token in the subject, if it has one
ALTER TABLE refused ADD COLUMN events BIGINT;            -- how many events it stands for, as far as can be counted
ALTER TABLE refused ADD COLUMN producer_id VARCHAR;      -- of the batch it was in; NULL where that is not known
ALTER TABLE refused ADD COLUMN batch_number BIGINT;
ALTER TABLE refused ADD COLUMN sha256 VARCHAR;           -- of its bytes
ALTER TABLE refused ADD COLUMN bytes BIGINT;
ALTER TABLE refused ADD COLUMN file VARCHAR;             -- where they are; NULL: they were too many to keep
ALTER TABLE refused ADD COLUMN place BIGINT;

CREATE TABLE refused_changes (
    id         VARCHAR   NOT NULL,
    state      VARCHAR   NOT NULL,  -- requeued: read again and booked; purged: given up on purpose
    changed_at TIMESTAMP NOT NULL
);

CREATE TABLE refused_files (
    file       VARCHAR   NOT NULL,
    state      VARCHAR   NOT NULL,  -- dropped: to make room; purged: on purpose
    changed_at TIMESTAMP NOT NULL
);

-- By what the letters were read again last: the newest version of a batch, and the types of events.
CREATE TABLE refused_reader (version BIGINT NOT NULL, types VARCHAR NOT NULL);
