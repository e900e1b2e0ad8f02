INSERT INTO operation_records (
    operation, kind, started_at, ended_at, request, reason, source, reverts, prices,
    asked, stopped_at, left_meters, left_why
)
VALUES (
    $number, $kind, make_timestamp($started), make_timestamp($ended::BIGINT), $request, $reason,
    $source, $reverts, $prices, $asked, make_timestamp($stopped::BIGINT), $left, $left_why
);
