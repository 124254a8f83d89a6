-- The table on the evening of 1 October 2025 at 18:11 in Bucharest, 15:11 UTC,
-- moved to now: 48 runs that completed, and 8 that say they are running. Their
-- containers were restarted; only the last began within the last ten minutes,
-- and it has processed nothing.
BEGIN;
SET LOCAL timezone = 'UTC';

CREATE TEMPORARY VIEW moved AS
    SELECT date_trunc('second', now()::timestamp) - timestamp '2025-10-01 15:11:11' AS by;

CREATE TEMPORARY TABLE stuck (started_at, operation, account_type, processed, errors) ON COMMIT DROP AS VALUES
    (timestamp '2025-09-30 08:12:44', 'full_sync',        'both', 1250, NULL::jsonb),
    (timestamp '2025-09-30 16:40:03', 'incremental_sync', 'main',   75, '[]'),
    (timestamp '2025-10-01 07:55:29', 'full_sync',        'both', 2400, '[{"error": "429 Too Many Requests", "timestamp": "2025-10-01T07:58:02"}]'),
    (timestamp '2025-10-01 11:20:50', 'incremental_sync', 'fbe',    40, NULL),
    (timestamp '2025-10-01 13:31:15', 'incremental_sync', 'main',  100, '[]'),
    (timestamp '2025-10-01 14:38:57', 'full_sync',        'both',  300, NULL),
    (timestamp '2025-10-01 14:46:30', 'incremental_sync', 'both',   25, '[]'),
    (timestamp '2025-10-01 15:05:11', 'incremental_sync', 'both',    0, NULL);

INSERT INTO app.emag_sync_logs (id, sync_type, account_type, operation, status,
    total_items, processed_items, created_items, updated_items, failed_items, errors,
    pages_processed, api_requests_made, rate_limit_hits, started_at, triggered_by, sync_version, created_at, updated_at)
SELECT gen_random_uuid(), 'products', account_type, operation, 'running',
    2550, processed, 0, processed, 0, errors,
    processed / 100, processed / 100 + 1, 0, started_at + by, 'api', 'v4.4.8', started_at + by, started_at + by
FROM stuck, moved;

-- Nothing ever told the progress rows that their runs are over.
INSERT INTO app.emag_sync_progress (id, sync_log_id, current_page, total_pages, current_item, total_items,
    percentage_complete, current_operation, is_active, updated_at)
SELECT gen_random_uuid(), id, pages_processed, 26, processed_items, total_items,
    100.0 * processed_items / total_items, 'fetching offers', true, started_at
FROM app.emag_sync_logs WHERE status = 'running';

-- Five days of runs every two and a half hours, two to nine minutes each.
INSERT INTO app.emag_sync_logs (id, sync_type, account_type, operation, status,
    total_items, processed_items, created_items, updated_items, failed_items,
    pages_processed, api_requests_made, rate_limit_hits,
    started_at, completed_at, duration_seconds, triggered_by, sync_version, created_at, updated_at)
SELECT gen_random_uuid(), 'products', (ARRAY['main', 'fbe', 'both'])[1 + n % 3],
    CASE WHEN n % 8 = 0 THEN 'full_sync' ELSE 'incremental_sync' END, 'completed',
    2550, 2550, n % 5, 2550 - n % 5, 0, 26, 27, 0,
    began, began + took, extract(epoch FROM took), 'api', 'v4.4.8', began, began + took
FROM moved, generate_series(1, 48) AS n,
    LATERAL (SELECT timestamp '2025-10-01 14:20:00' + by - n * interval '150 minutes' AS began,
                    (120 + n * 97 % 420) * interval '1 second' AS took) AS run;
COMMIT;
