-- The report: one self-contained page.

CREATE FUNCTION sync_guard.report_html(since interval DEFAULT '24 hours', relation regclass DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_report_html';
COMMENT ON FUNCTION sync_guard.report_html(interval, regclass) IS
'A self-contained HTML page on the runs of the last `since`: what runs and what is stuck, a timeline per scope, failure rate and durations, reaped runs with their evidence, alerts, health, suggested limits. Times are in the session''s TimeZone. psql -At -c "SELECT sync_guard.report_html()" > report.html. relation NULL: every guarded table that you may read. Errors: SY004 not guarded; SY006 a since that is not positive, or longer than 100 years; 42501 no right.';
