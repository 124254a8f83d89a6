-- The application's own table of sync runs, as a PostgreSQL administrator finds
-- it: times are UTC without a zone, a run carries no sign of life, and nothing
-- keeps two runs apart. Nothing here knows of the guard.
CREATE SCHEMA app;

CREATE TABLE app.emag_sync_logs (
    id                uuid PRIMARY KEY,
    sync_type         varchar(50) NOT NULL,
    account_type      varchar(10) NOT NULL,
    operation         varchar(50) NOT NULL,
    sync_params       jsonb,
    status            varchar(50) NOT NULL,
    total_items       integer NOT NULL,
    processed_items   integer NOT NULL,
    created_items     integer NOT NULL,
    updated_items     integer NOT NULL,
    failed_items      integer NOT NULL,
    errors            jsonb,
    warnings          jsonb,
    duration_seconds  double precision,
    pages_processed   integer NOT NULL,
    api_requests_made integer NOT NULL,
    rate_limit_hits   integer NOT NULL,
    started_at        timestamp NOT NULL,
    completed_at      timestamp,
    triggered_by      varchar(100),
    sync_version      varchar(20),
    created_at        timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at        timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT ck_emag_sync_logs_account_type CHECK (account_type IN ('main', 'fbe', 'both')),
    CONSTRAINT ck_emag_sync_logs_sync_type CHECK (sync_type IN ('products', 'offers', 'orders')),
    CONSTRAINT ck_emag_sync_logs_status CHECK (status IN ('running', 'completed', 'failed', 'partial'))
);
CREATE INDEX idx_emag_sync_logs_type_account ON app.emag_sync_logs (sync_type, account_type);
CREATE INDEX idx_emag_sync_logs_status ON app.emag_sync_logs (status);
CREATE INDEX idx_emag_sync_logs_started_at ON app.emag_sync_logs (started_at);

CREATE TABLE app.emag_sync_progress (
    id                   uuid PRIMARY KEY,
    sync_log_id          uuid NOT NULL REFERENCES app.emag_sync_logs (id),
    current_page         integer NOT NULL,
    total_pages          integer,
    current_item         integer NOT NULL,
    total_items          integer,
    percentage_complete  double precision NOT NULL CHECK (percentage_complete BETWEEN 0 AND 100),
    current_operation    varchar(200),
    current_sku          varchar(100),
    items_per_second     double precision,
    estimated_completion timestamp,
    is_active            boolean NOT NULL,
    updated_at           timestamp NOT NULL,
    CONSTRAINT uq_emag_sync_progress_sync_log_id UNIQUE (sync_log_id)
);
CREATE INDEX idx_emag_sync_progress_sync_log_id ON app.emag_sync_progress (sync_log_id);
CREATE INDEX idx_emag_sync_progress_is_active ON app.emag_sync_progress (is_active);

-- What the application does to begin a run: one INSERT, committed at once.
-- (`ago` is the demo's: a run that began a while back.)
CREATE FUNCTION app.start_run(operation text, account_type text, ago interval DEFAULT '0') RETURNS uuid
LANGUAGE sql AS $$
    INSERT INTO app.emag_sync_logs (id, sync_type, account_type, operation, status,
        total_items, processed_items, created_items, updated_items, failed_items,
        pages_processed, api_requests_made, rate_limit_hits, started_at, triggered_by, sync_version)
    VALUES (gen_random_uuid(), 'products', account_type, operation, 'running',
        0, 0, 0, 0, 0, 0, 0, 0, (now() AT TIME ZONE 'UTC') - ago, 'api', 'v4.4.8')
    RETURNING id
$$;

-- What its status endpoint asks, and the JSON it makes of the answers: a run is
-- running where a row says so.
CREATE FUNCTION app.status_endpoint(recent integer) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'is_running', EXISTS (
            SELECT FROM app.emag_sync_logs WHERE sync_type = 'products' AND status = 'running'),
        'current_sync', (
            SELECT jsonb_build_object('operation', operation, 'account_type', account_type,
                                      'started_at', started_at, 'processed_items', processed_items)
            FROM app.emag_sync_logs WHERE sync_type = 'products' AND status = 'running'
            ORDER BY started_at DESC LIMIT 1),
        'recent_syncs', (
            SELECT jsonb_agg(jsonb_build_object('operation', operation, 'status', status, 'started_at', started_at)
                             ORDER BY started_at DESC)
            FROM (SELECT * FROM app.emag_sync_logs WHERE sync_type = 'products'
                  ORDER BY started_at DESC LIMIT recent) AS latest))
$$;
