"""Documents against JSON schemas. Reads lines `schema-file <tab> document`; answers each with a line: ok, or what is wrong
with it and where."""

import json
import sys

from jsonschema import Draft202012Validator

validators = {}


def validator_of(path):
    if path not in validators:
        with open(path, encoding="utf-8") as file:
            schema = json.load(file)
        Draft202012Validator.check_schema(schema)
        validators[path] = Draft202012Validator(schema)
    return validators[path]


for line in sys.stdin:
    path, document = line.rstrip("\n").split("\t", 1)
    errors = sorted(validator_of(path).iter_errors(json.loads(document)), key=lambda error: list(map(str, error.absolute_path)))
    print("; ".join(f"{error.json_path}: {error.message}" for error in errors).replace("\n", " ") or "ok")
