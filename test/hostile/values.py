"""Arguments for the guard's functions: one with which a call is meant well, and every kind that is meant badly.

Values are SQL expressions, so that a statement stays short whatever it passes. A type or an argument that is not known here is
an error: a new function must not slip past.
"""

MEGABYTE = "repeat('x', 1000000)"
NOISE = [  # texts that quoting, printing and parsing must survive
    "''", "' '", "'\"'", "''''", "E'\\\\'", "E'a\\'b\"c\\\\d'", "'%s%n%1$s'", "'$1'", "'$$;--'", "E'\\x01\\x1b[31m\\x7f'",
    "E'line\\nline\\ttab\\r'", "'; DROP TABLE sync_guard.journal; --'", "'\"; DROP TABLE odd.jobs; --'",
    "U&'\\+01F600\\202E\\FFFD\\00AD'", "U&'\\017Dlu\\0165ou\\010Dk\\00FD \\202E k\\016F\\0148'", "'NULL'", "'null'", "'{'", "'{}'", "'{\"queue\": \"mail\"}'",
    "'[1]'", "'0'", "'-1'", "'9223372036854775808'", "'NaN'", "'Infinity'", "'-infinity'", "'1e400'", "'1e-400'", "'15 %'",
    "'no_such'", "'../../etc/passwd'", "'<script>alert(1)</script>'"]
NAMES = NOISE + ["'ctid'", "'xmin'", "'tableoid'", "'........pg.dropped.15........'", "'id'", "'state'", "'queue'", "'started_at'", "'done'",
                 "'extra'", "'twice'", "'priority'", "'tags'", "repeat('n', 63)"]

RELATIONS = [
    "0", "4294967295", "(SELECT key::oid FROM hostile.runs WHERE name = 'dropped')", "'odd.plain'::regclass",
    "'odd.parent'::regclass", "'odd.child'::regclass", "'odd.unlogged'::regclass", "'odd.no_columns'::regclass",
    "'odd.of_type'::regclass", "'odd.a_view'::regclass", "'odd.a_matview'::regclass", "'odd.a_sequence'::regclass",
    "'odd.composite'::regclass", "'odd.a_foreign_table'::regclass", "'odd.jobs_pkey'::regclass", "'odd.parts_pkey'::regclass",
    "'odd.unguarded_parts'::regclass", "'odd.unguarded_part'::regclass", "'odd.parts'::regclass", "'odd.parts_1'::regclass",
    "'odd.observed'::regclass", "'odd.broken'::regclass",
    "(SELECT oid FROM pg_class WHERE relname LIKE 't\"a%%' AND relkind = 'r')", "'app.emag_sync_logs'::regclass",
    "'app.emag_sync_progress'::regclass", "(SELECT reltoastrelid FROM pg_class WHERE oid = 'odd.jobs'::regclass)",
    "(SELECT max(oid) FROM pg_class WHERE relname = 'mine' AND relpersistence = 't')",
    "(SELECT min(oid) FROM pg_class WHERE relname = 'of_others' AND relpersistence = 't')", "'pg_class'::regclass",
    "'pg_proc'::regclass", "'pg_authid'::regclass", "'pg_largeobject'::regclass", "'pg_settings'::regclass",
    "'information_schema.tables'::regclass"]

STATUSES = ["'running'", "'waiting'", "'completed'", "'failed'"]
ARRAYS = [
    "'{}'", "'{NULL}'", "'{a,NULL}'", "'{{a,b},{c,d}}'", "'[0:1]={a,b}'", "'[-5:-4]={running,failed}'", "'{\"\"}'", "'{a,a,a}'",
    "'{running}'", "'{max_silence}'", "'{max_silence,no_such}'", "'{\"a\\\"b\",\"c\\\\d\",\"%s\"}'", "'{id,id}'", "'{ctid}'",
    "'{queue,state}'", "ARRAY(SELECT 'a' || i FROM generate_series(1, 3000) AS i)", "'{NULL,NULL}'",
    "'{}'::text[] || NULL::text"]

SCALARS = ["null", "true", "1", '"text"', "[]", "[1, 2]", "{}", "[[]]", "[null]", "-0", "1e300", '""']
OBJECTS = [  # as scopes, as values of a row, as errors
    {"no_such": 1}, {"": 1}, {"\"'\\": "\"'\\"}, {"%s": "%s"}, {"queue": None}, {"queue": ""}, {"queue": 1},
    {"queue": [1, {"a": None}]}, {"queue": {"$ne": 1}}, {"QUEUE": "mail"}, {"queue": "mail", "state": "running"},
    {"state": "running"}, {"state": "no_such"}, {"state": None}, {"state": "completed"}, {"id": "x"},
    {"id": 9223372036854775807}, {"id": None}, {"id": 1.5}, {"twice": 1}, {"started_at": "infinity"},
    {"started_at": "-infinity"}, {"started_at": "no time"}, {"started_at": 0}, {"finished_at": "2020-01-01"},
    {"priority": "NaN"}, {"priority": "Infinity"}, {"done": -1}, {"done": True}, {"done": 92233720368547758070},
    {"tags": [1, [2]]}, {"tags": [[None]]}, {"tags": "{a,b"}, {"took": "infinity"}, {"took": "-178000000 years"},
    {"extra": {"a": {"b": [1]}}}, {"ctid": "(0,1)"}, {"tableoid": 1}, {"........pg.dropped.15........": 1},
    {"queue": "both\u0001\u202e"}]

INTERVALS = [
    "'0'", "'-1 second'", "'1 microsecond'", "'-1 microsecond'", "'178000000 years'", "'-178000000 years'",
    "'2147483647 months'", "'-2147483648 days'", "'1 month -31 days'", "'1 day -24 hours'", "'2562047788 hours'",
    "'2147483647 months 2147483647 days'", "'1 second'", "'1 hour'"]


def json_literal(value):
    import json
    return "'%s'" % json.dumps(value, ensure_ascii=False).replace("'", "''")


def bad_values(type_name, version, soak=False):
    """The bad values of a type, with NULL first."""
    tens = 10000000 if soak else 2000000
    known = {
        "regclass": RELATIONS,
        "name": NAMES,
        "text": NOISE + STATUSES + [MEGABYTE, "repeat('\"', 1000000)", "repeat('''', 200000)", "repeat(E'\\\\', 1000000)", "repeat('{', 100000)",
                                    "repeat('* ', 100000)", "repeat('9', 1000)"],
        "text[]": ARRAYS + ["ARRAY[%s]" % MEGABYTE],
        "name[]": ARRAYS,
        "jsonb": ["'%s'" % s for s in SCALARS] + [json_literal(o) for o in OBJECTS] + [
            "(repeat('[', 2000) || repeat(']', 2000))::jsonb", "(repeat('{\"queue\":', 2000) || '1' || repeat('}', 2000))::jsonb",
            "jsonb_build_object('queue', repeat('x', %d))" % tens, "jsonb_build_object(repeat('k', %d), 1)" % tens,
            "to_jsonb(repeat('x', %d))" % tens, "(SELECT jsonb_agg(repeat('y', 90)) FROM generate_series(1, 20000))",
            "(SELECT jsonb_object_agg('k' || i, i) FROM generate_series(1, 20000) AS i)",
            "jsonb_build_object('priority', ('1' || repeat('0', 100000))::numeric)"],
        "interval": INTERVALS + (["'infinity'", "'-infinity'"] if version >= 170000 else []),
        "timestamptz": ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31'", "'epoch'", "now()",
                        "clock_timestamp() + interval '1 microsecond'"],
        "integer": ["0", "-1", "1", "2147483647", "(-2147483648)"],
        "bigint": ["0", "-1", "1", "9223372036854775807", "(-9223372036854775808)", "4294967296"]
                  + ["(SELECT token FROM hostile.runs WHERE name = '%s')" % n for n in ("ended", "leased log")],
        "boolean": ["true", "false"],
        "uuid": ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "gen_random_uuid()"],
    }
    known["timestamp with time zone"] = known["timestamptz"]
    if type_name not in known:
        raise KeyError("bad values of type %s are not known to values.py" % type_name)
    return ["(%s)::%s" % (value, type_name) for value in ["NULL"] + known[type_name]]


# Arguments that have a default, and without which a call is about nothing.
NEEDED = {"set_limit": ("max_silence",), "set_alert_rule": ("enabled",)}


def key_of(name):
    return "(SELECT key FROM hostile.runs WHERE name = '%s')" % name


def good_value(function, argument, type_name, signature):
    """What a call that is meant well passes; None: the argument's default."""
    by_uuid = "uuid" in signature
    run = {"overturn_reap": "reaped", "take_lease": "free"}.get(function, "leased") + (" log" if by_uuid else " job")
    known = {
        "relation": "'app.emag_sync_logs'" if by_uuid else "'odd.jobs'",
        "key": key_of(run), "token": "(SELECT token FROM hostile.runs WHERE name = 'leased job')",
        "status": "'completed'", "from_status": "'completed'", "to_status": "'failed'",
        "scope": "'{\"queue\": \"mail\"}'", "initial_values": "'{\"queue\": \"new\"}'",
        "worker": "'w'", "incarnation": "'1'", "rule": "'stuck'", "relation_name": "'odd.jobs'", "whole_rows": "true", "wide": "true",
        "older_than": "'1 year'", "max_silence": "'1 hour'", "enabled": "true"}
    if argument not in known:
        raise KeyError("argument %s of %s is not known to values.py" % (argument, function))
    return "(%s)::%s" % (known[argument], type_name)
