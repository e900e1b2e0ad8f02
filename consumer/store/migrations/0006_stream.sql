-- What the ledger knows to be below it: which ledger it is, how far it has booked which stream, and
-- what of that stream it can never book.

-- One row. Copies of a ledger have the same id: see `claim` in the package that reads the stream.
CREATE TABLE ledger_identity (ledger_id UUID NOT NULL);
INSERT INTO ledger_identity VALUES (uuid());

-- One row. Older versions kept a highest number: everything up to it counts as booked.
CREATE TABLE stream_state (
    stream_created TIMESTAMP,         -- the stream's identity; NULL: not known yet
    floor          BIGINT   NOT NULL, -- everything up to it is booked, or noted as a gap
    above          VARCHAR  NOT NULL, -- the runs that are booked above it: JSON, [[first, last], …]
    last_known     BIGINT   NOT NULL, -- the highest sequence that the stream is known to have had
    trimmed_to     BIGINT   NOT NULL, -- booked messages up to it were removed to make room
    newest_booked    BIGINT,          -- the newest booked message; NULL: not known
    newest_stored_at TIMESTAMP        -- when the server stored it: another time is another message
);
INSERT INTO stream_state
SELECT NULL, stream_sequence, '[]', stream_sequence, 0, NULL, NULL FROM ledger_state;

CREATE TABLE stream_gaps (
    stream_created TIMESTAMP,
    first_sequence BIGINT    NOT NULL,
    last_sequence  BIGINT,             -- NULL: nobody knows how many there were
    noted_at       TIMESTAMP NOT NULL, -- by the ledger's own clock
    why            VARCHAR   NOT NULL, -- left_the_stream, stream_gone, end_lost, unreadable, restored
    filled_at      TIMESTAMP           -- they came after all
);
