\echo Use "CREATE EXTENSION emag_sync_guard" to load this file. \quit

CREATE SCHEMA sync_guard;
COMMENT ON SCHEMA sync_guard IS 'emag_sync_guard: keeps tables of background runs honest';
