-- The class of a meter's requests is part of the meter: see `SIZE_TIERS` in the event contract. Tokens
-- that only a provider's total has are a quantity of their own.
ALTER TABLE bookings ADD COLUMN size_tier BIGINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN service_tier VARCHAR DEFAULT '';
ALTER TABLE bookings ADD COLUMN other_tokens BIGINT DEFAULT 0;
