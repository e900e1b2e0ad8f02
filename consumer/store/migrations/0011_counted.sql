-- Whether the meter of a row has used anything, and has a cost, a list price and a billed amount since then: by
-- difference, so that a sum says how many meters it is of, and how many of them have that amount now.
ALTER TABLE bookings ADD COLUMN meters TINYINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN priced_meters TINYINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN listed_meters TINYINT DEFAULT 0;
ALTER TABLE bookings ADD COLUMN billed_meters TINYINT DEFAULT 0;

-- What takes an amount back said so by a reason, where no rule bills the meter any more.
UPDATE bookings
SET unbilled_reason = NULL
WHERE unbilled_reason = 'no [[billed]] price applies to it any more';

-- The rows so far tell it. Of nearly every meter all of them agree.
CREATE TEMP TABLE booked_meters AS
SELECT
    project,
    session_id,
    min(place) AS first_place,
    count(cost) > 0 AS is_priced,
    count(list_cost) > 0 AS is_listed,
    count(billed) > 0 AS is_billed,
    count(operation) = 0
    AND (
        count(cost) = 0
        OR (count(unpriced_reason) = 0 AND count(price_source) = count(*))
    )
    AND (
        count(list_cost) = 0
        OR (count(list_cost) = count(*) AND min(list_cost) >= 0 AND max(list_cost) > 0)
    )
    AND (
        count(billed) = 0
        OR (count(billed) = count(*) AND min(billed) >= 0 AND max(billed) > 0)
    ) AS agrees
FROM bookings
WHERE session_id IS NOT NULL
GROUP BY
    project,
    session_id,
    agent_label,
    modality,
    provider,
    model,
    estimated,
    size_tier,
    service_tier;

-- Of the others, what they add up to so far. Zero is an amount where the row had the price of one.
CREATE TEMP TABLE counted AS
WITH RECURSIVE turns AS (
    SELECT operation, 1 AS sign FROM operation_records WHERE reverts IS NULL
    UNION ALL
    SELECT r.operation, -t.sign
    FROM operation_records AS r
    INNER JOIN turns AS t ON r.reverts = t.operation
),
added_up AS (
    SELECT
        project,
        session_id,
        agent_label,
        modality,
        provider,
        model,
        estimated,
        size_tier,
        service_tier,
        place,
        price_id,
        price_source,
        unpriced_reason,
        list_cost,
        billed,
        unbilled_reason,
        sum(
            requests + input_tokens + output_tokens + other_tokens + characters + audio_us + session_us
        ) OVER meter > 0
        OR sum(coalesce(reported_cost, 0)) OVER meter > 0 AS is_used,
        sum(coalesce(cost, 0)) OVER meter AS cost_so_far,
        sum(coalesce(list_cost, 0)) OVER meter AS list_cost_so_far,
        sum(coalesce(billed, 0)) OVER meter AS billed_so_far
    FROM bookings
    SEMI JOIN (SELECT * FROM booked_meters WHERE NOT agrees) USING (project, session_id)
    WINDOW meter AS (
        PARTITION BY
            project,
            session_id,
            agent_label,
            modality,
            provider,
            model,
            estimated,
            size_tier,
            service_tier
        ORDER BY place
    )
),
told AS (
    SELECT
        project,
        session_id,
        agent_label,
        modality,
        provider,
        model,
        estimated,
        size_tier,
        service_tier,
        place,
        is_used::TINYINT AS is_used,
        (
            is_used
            AND (cost_so_far <> 0 OR (unpriced_reason IS NULL AND price_source IS NOT NULL))
        )::TINYINT AS is_priced,
        (
            is_used
            AND (
                list_cost_so_far <> 0
                OR (
                    list_cost IS NOT NULL
                    AND CASE
                        WHEN price_id IS NULL THEN price_source IS NOT NULL
                        ELSE price_id IN (
                            SELECT price_id FROM prices_used WHERE json_exists(terms, '$.listed')
                        )
                    END
                )
            )
        )::TINYINT AS is_listed,
        (
            is_used
            AND (
                billed_so_far <> 0
                OR (
                    billed IS NOT NULL
                    AND (billed = 0 OR unbilled_reason IS NULL)
                    AND price_id IS NOT NULL
                    AND price_id IN (
                        SELECT price_id FROM prices_used WHERE json_exists(terms, '$.billed')
                    )
                )
            )
        )::TINYINT AS is_billed
    FROM added_up
)
SELECT
    first_place AS place,
    1 AS meters,
    is_priced::TINYINT AS priced_meters,
    is_listed::TINYINT AS listed_meters,
    is_billed::TINYINT AS billed_meters
FROM booked_meters
WHERE agrees
UNION ALL
SELECT
    place,
    is_used - coalesce(lag(is_used) OVER own, 0),
    is_priced - coalesce(lag(is_priced) OVER own, 0),
    is_listed - coalesce(lag(is_listed) OVER own, 0),
    is_billed - coalesce(lag(is_billed) OVER own, 0)
FROM told
WINDOW own AS (
    PARTITION BY
        project,
        session_id,
        agent_label,
        modality,
        provider,
        model,
        estimated,
        size_tier,
        service_tier
    ORDER BY place
)
UNION ALL
-- an adjustment counts as a meter does that has the amount which it states
SELECT
    b.place,
    0,
    CASE WHEN b.cost <> 0 THEN turns.sign ELSE 0 END,
    CASE WHEN b.list_cost IS NOT NULL THEN turns.sign ELSE 0 END,
    CASE WHEN b.billed IS NOT NULL THEN turns.sign ELSE 0 END
FROM bookings AS b
INNER JOIN turns USING (operation)
WHERE b.session_id IS NULL;

-- By places, in their order: an update by a join is seventy times slower.
UPDATE bookings SET meters = 1 WHERE place IN (SELECT place FROM counted WHERE meters = 1);
UPDATE bookings SET meters = -1 WHERE place IN (SELECT place FROM counted WHERE meters = -1);
UPDATE bookings SET priced_meters = 1 WHERE place IN (SELECT place FROM counted WHERE priced_meters = 1);
UPDATE bookings SET priced_meters = -1 WHERE place IN (SELECT place FROM counted WHERE priced_meters = -1);
UPDATE bookings SET listed_meters = 1 WHERE place IN (SELECT place FROM counted WHERE listed_meters = 1);
UPDATE bookings SET listed_meters = -1 WHERE place IN (SELECT place FROM counted WHERE listed_meters = -1);
UPDATE bookings SET billed_meters = 1 WHERE place IN (SELECT place FROM counted WHERE billed_meters = 1);
UPDATE bookings SET billed_meters = -1 WHERE place IN (SELECT place FROM counted WHERE billed_meters = -1);
DROP TABLE counted;
DROP TABLE booked_meters;

-- What is added up, and what sessions came to, is made anew of the rows, in slices, while the ledger works.
ALTER TABLE folded_usage DROP COLUMN priced_rows;
ALTER TABLE folded_usage DROP COLUMN listed_rows;
ALTER TABLE folded_usage DROP COLUMN billed_rows;
ALTER TABLE folded_usage ADD COLUMN meters BIGINT;
ALTER TABLE folded_usage ADD COLUMN priced_meters BIGINT;
ALTER TABLE folded_usage ADD COLUMN listed_meters BIGINT;
ALTER TABLE folded_usage ADD COLUMN billed_meters BIGINT;
DELETE FROM folded_usage;
DELETE FROM session_readings;
UPDATE fold_state SET folded_to = 0;
INSERT INTO pending_sessions
SELECT project, session_id FROM settled_sessions
ORDER BY session_id, project;
DELETE FROM settled_sessions;
