-- Money in layers. `cost` is what the operator pays; `list_cost` is the published price of the same usage,
-- and `billed` what the tenant is charged for it, NULL where no rule says so.
ALTER TABLE bookings ADD COLUMN list_cost DECIMAL(18, 9);
ALTER TABLE bookings ADD COLUMN billed DECIMAL(18, 9);

-- Why `billed` does not cover all of the meter, where a rule bills it.
ALTER TABLE bookings ADD COLUMN unbilled_reason VARCHAR;

-- The prices that rated the meter up to this row (`prices_used`); NULL where there was none, and in rows
-- of older versions.
ALTER TABLE bookings ADD COLUMN price_id BIGINT;

-- The operation that a row belongs to, NULL for what a worker reported; and the month that a row
-- corrects, where that was closed and the row is dated in a later one.
ALTER TABLE bookings ADD COLUMN operation BIGINT;
ALTER TABLE bookings ADD COLUMN corrects DATE;

-- An adjustment is of no session.
ALTER TABLE bookings ALTER COLUMN session_id DROP NOT NULL;

-- Every price that ever rated a row, as it was then: rows point to it, so a cost can be explained whatever
-- price list is installed later.
CREATE TABLE prices_used (
    price_id   BIGINT    NOT NULL,
    first_used TIMESTAMP NOT NULL,
    terms      JSON      NOT NULL  -- `pricing.terms.Terms`
);

-- What was done to the books on purpose, each once. An operation that reverts another names it.
CREATE TABLE operation_records (
    operation  BIGINT    NOT NULL,
    kind       VARCHAR   NOT NULL,  -- rerate, adjust, void, close, revert
    started_at TIMESTAMP NOT NULL,
    ended_at   TIMESTAMP,           -- NULL: not finished, and taken up again
    request    JSON      NOT NULL,  -- what was asked
    reason     VARCHAR   NOT NULL,
    source     VARCHAR   NOT NULL,
    reverts    BIGINT,
    prices     VARCHAR              -- the operator's own prices of a re-rating, as it began
);

-- Months that take no row any more: what belongs to them and comes later is dated in an open month.
CREATE TABLE month_closings (
    month     DATE   NOT NULL,  -- its first day
    operation BIGINT NOT NULL
);

-- Until now cost was the published price.
UPDATE bookings SET list_cost = cost WHERE cost IS NOT NULL;

-- Sessions that were taken out of every sum: nothing is booked of them while they name the operation
-- that did it. `uncounted`: their month was open then, so they are not counted in it.
CREATE TABLE void_marks (
    project    VARCHAR NOT NULL,
    session_id UUID    NOT NULL,
    operation  BIGINT,  -- NULL: brought back, when its month was closed without it
    uncounted  BOOLEAN NOT NULL
);
