-- What a worker heard and no session's totals hold. Rows of older versions, whose workers did not say,
-- have NULL.

-- Usage events of the session that could not be measured: what they used is in no row.
ALTER TABLE session_ends ADD COLUMN unmeasured BIGINT;

-- The same for the whole process, those of its sessions included; a running total.
ALTER TABLE producer_reports ADD COLUMN unmeasured BIGINT;

-- What its unattributed events used: a list of meters with running totals, as the event has it.
ALTER TABLE producer_reports ADD COLUMN unattributed_usage JSON;
