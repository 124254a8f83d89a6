\echo Use "ALTER EXTENSION emag_sync_guard UPDATE TO '1.1.0'" to load this file. \quit
