-- Alerts: rules, what is raised now, what was.

CREATE FUNCTION sync_guard.set_alert_rule(
    relation regclass,
    rule text,
    scope jsonb DEFAULT '{}',
    enabled boolean DEFAULT NULL,
    raise_above text DEFAULT NULL,
    clear_below text DEFAULT NULL,
    time_window interval DEFAULT NULL,
    min_sample integer DEFAULT NULL,
    reset text[] DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_set_alert_rule';
COMMENT ON FUNCTION sync_guard.set_alert_rule(regclass, text, jsonb, boolean, text, text, interval, integer, text[]) IS
'Changes an alert rule for a table, or for one of its scopes; relation NULL: for all tables, and the rules that are about no table. raise_above and clear_below are in the rule''s unit: a time (''45 minutes''), a share (''15 %'' or ''0.15''), a number. NULL leaves; reset names what goes back (enabled, raise_above, clear_below, time_window, min_sample). Owner of the table only, with NULL the owner of the extension. Errors: SY004 not guarded, SY006 no such rule, scope or figure, 42501 no right.';

CREATE FUNCTION sync_guard.effective_alert_rules(
    OUT rule text, OUT severity text, OUT relation regclass, OUT scope jsonb, OUT enabled boolean, OUT raise_above text,
    OUT clear_below text, OUT time_window interval, OUT min_sample integer, OUT unit text, OUT changed boolean,
    OUT meaning text)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10
AS 'MODULE_PATHNAME', 'emag_sync_guard_effective_alert_rules';
COMMENT ON FUNCTION sync_guard.effective_alert_rules() IS 'behind the view alert_rules';

CREATE FUNCTION sync_guard.current_alerts(
    OUT rule text, OUT severity text, OUT relation regclass, OUT scope jsonb, OUT subject text, OUT since timestamptz,
    OUT recorded boolean, OUT figure double precision, OUT threshold double precision, OUT unit text, OUT sample bigint,
    OUT detail text, OUT hint text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 5
AS 'MODULE_PATHNAME', 'emag_sync_guard_current_alerts';
COMMENT ON FUNCTION sync_guard.current_alerts() IS 'behind the view alerts: the rules, evaluated now';

CREATE FUNCTION sync_guard.may_read_alert(relation regclass, relation_name text)
RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'emag_sync_guard_may_read_alert';
COMMENT ON FUNCTION sync_guard.may_read_alert(regclass, text) IS
    'behind the view alert_history: the caller may see the alerts on this table; relation NULL: he may read any guarded table';

CREATE VIEW sync_guard.alert_rules AS
SELECT r.rule, r.severity, r.relation, r.scope, r.enabled, r.raise_above, r.clear_below, r.time_window, r.min_sample,
       r.unit, r.changed, r.meaning
FROM sync_guard.effective_alert_rules() AS r;

CREATE VIEW sync_guard.alerts AS
SELECT a.rule, a.severity, a.relation, a.scope, a.subject, a.since, a.recorded, a.figure, a.threshold, a.unit, a.sample,
       a.detail, a.hint
FROM sync_guard.current_alerts() AS a;

CREATE VIEW sync_guard.alert_history WITH (security_barrier) AS
SELECT l.id, l.rule, l.relation, l.relation_name, l.scope, l.subject, l.raised_at, l.cleared_at, l.figure, l.threshold,
       l.sample, l.detail, l.cleared_figure, l.cleared_detail
FROM sync_guard.alert_log AS l
WHERE sync_guard.may_read_alert(l.relation, l.relation_name)
ORDER BY l.id DESC;

COMMENT ON VIEW sync_guard.alert_rules IS
    'the rules of alerting: a line per rule with what holds for all tables, and one per table or scope for which set_alert_rule changed it';
COMMENT ON VIEW sync_guard.alerts IS 'what is wrong now, by the alert rules, evaluated at this instant; empty: nothing is';
COMMENT ON VIEW sync_guard.alert_history IS 'the alerts that sweeps have raised, newest first, and when and by what figure they cleared';
COMMENT ON COLUMN sync_guard.alert_rules.rule IS 'its name, for set_alert_rule';
COMMENT ON COLUMN sync_guard.alert_rules.severity IS 'critical or warning';
COMMENT ON COLUMN sync_guard.alert_rules.relation IS 'NULL: what holds for all tables, or the rule is about none';
COMMENT ON COLUMN sync_guard.alert_rules.scope IS '{}: for every scope of the table; NULL with relation';
COMMENT ON COLUMN sync_guard.alert_rules.enabled IS 'the rule is asked';
COMMENT ON COLUMN sync_guard.alert_rules.raise_above IS 'an alert is raised where the figure is above this; in the rule''s unit';
COMMENT ON COLUMN sync_guard.alert_rules.clear_below IS 'one that is raised clears where the figure is not above this';
COMMENT ON COLUMN sync_guard.alert_rules.time_window IS 'how far back the rule looks; NULL: it looks at this instant';
COMMENT ON COLUMN sync_guard.alert_rules.min_sample IS 'of fewer runs none is raised, and one that is raised clears at less than half of them; NULL: it takes no sample';
COMMENT ON COLUMN sync_guard.alert_rules.unit IS 'of figure: seconds, share (0 to 1), times, runs';
COMMENT ON COLUMN sync_guard.alert_rules.changed IS 'set_alert_rule has changed something of it here';
COMMENT ON COLUMN sync_guard.alert_rules.meaning IS 'what the rule measures';
COMMENT ON COLUMN sync_guard.alerts.rule IS 'by which rule of alert_rules';
COMMENT ON COLUMN sync_guard.alerts.severity IS 'critical or warning';
COMMENT ON COLUMN sync_guard.alerts.relation IS 'the guarded table; NULL: it is about the server';
COMMENT ON COLUMN sync_guard.alerts.subject IS 'of reaping_overdue: the job, or worker';
COMMENT ON COLUMN sync_guard.alerts.since IS 'when a sweep raised it; NULL: none has seen it yet';
COMMENT ON COLUMN sync_guard.alerts.recorded IS 'a sweep has raised it, and told who listens; false: the next one will';
COMMENT ON COLUMN sync_guard.alerts.figure IS 'what the rule measures now, in unit';
COMMENT ON COLUMN sync_guard.alerts.threshold IS 'raised above this, in unit';
COMMENT ON COLUMN sync_guard.alerts.unit IS 'seconds, share (0 to 1), times, runs';
COMMENT ON COLUMN sync_guard.alerts.sample IS 'of how many runs the figure is; NULL: of no sample';
COMMENT ON COLUMN sync_guard.alerts.detail IS 'the alert in words, with its figures';
COMMENT ON COLUMN sync_guard.alerts.hint IS 'what to do about it';
COMMENT ON COLUMN sync_guard.alert_history.rule IS 'by which rule of alert_rules';
COMMENT ON COLUMN sync_guard.alert_history.relation IS 'the table; NULL: it was about the server';
COMMENT ON COLUMN sync_guard.alert_history.subject IS 'of reaping_overdue: the job, or worker';
COMMENT ON COLUMN sync_guard.alert_history.raised_at IS 'when a sweep raised it';
COMMENT ON COLUMN sync_guard.alert_history.cleared_at IS 'when a sweep saw that it was over; NULL: it is still raised';
COMMENT ON COLUMN sync_guard.alert_history.figure IS 'what the rule measured then, in its unit';
COMMENT ON COLUMN sync_guard.alert_history.threshold IS 'raised above this';
COMMENT ON COLUMN sync_guard.alert_history.sample IS 'of how many runs the figure was; NULL: of no sample';
COMMENT ON COLUMN sync_guard.alert_history.detail IS 'the alert in words, with its figures';
COMMENT ON COLUMN sync_guard.alert_history.cleared_figure IS 'what the rule measured when it cleared; 0: there was nothing left to measure';
COMMENT ON COLUMN sync_guard.alert_history.cleared_detail IS 'the same in words';
