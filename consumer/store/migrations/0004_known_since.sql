-- When the ledger was told, by its own clock, and by whom: a worker's clock may be wrong, and a
-- session's start may be lost. Rows of older versions have NULL.

ALTER TABLE producer_reports ADD COLUMN received_at TIMESTAMP;

ALTER TABLE session_ends ADD COLUMN producer_id VARCHAR;
ALTER TABLE session_ends ADD COLUMN received_at TIMESTAMP;
