"""The works, in the order in which they are done and stand in the table."""

ORDER = [
    "update_of_a_guarded_row",
    "trigger_instructions",
    "start_and_finish",
    "reap_many",
    "reap_few",
    "is_running",
    "status_json",
    "heartbeat",
    "heartbeat_many",
    "registry_locks",
    "death_to_truth",
    "starters",
    "tpcb",
    "footprint",
]
