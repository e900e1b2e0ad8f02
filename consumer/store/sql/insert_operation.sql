INSERT INTO operation_records (
    operation, kind, started_at, ended_at, request, reason, source, reverts, prices
)
VALUES (
    $number, $kind, make_timestamp($started), make_timestamp($ended::BIGINT), $request, $reason,
    $source, $reverts, $prices
);
