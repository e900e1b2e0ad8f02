-- How many of the rows that were numbered are in no place, as far as that can be told: 1 where a tenant was erased.
SELECT
    CASE
        WHEN EXISTS (SELECT 1 FROM erasures) THEN 1
        ELSE
            coalesce(greatest((SELECT max(place) FROM bookings), (SELECT folded_to FROM fold_state)), 0)
            - (SELECT count(*) FROM bookings)
            - coalesce((SELECT sum(rows) FROM sealed_files), 0)
            - coalesce((SELECT sum(rows) FROM removed_detail), 0)
    END::BIGINT
