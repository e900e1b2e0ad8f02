-- Which request asked for an operation: a request that was not answered may come again, and is answered by
-- the operation that it made.
ALTER TABLE operation_records ADD COLUMN asked VARCHAR;

-- When a person stopped a long operation. What it did stays; it goes on when a person says so.
ALTER TABLE operation_records ADD COLUMN stopped_at TIMESTAMP;

-- How many meters an operation left as they are, because their new money cannot be booked, and why, of one
-- of them.
ALTER TABLE operation_records ADD COLUMN left_meters BIGINT;
ALTER TABLE operation_records ADD COLUMN left_why VARCHAR;
