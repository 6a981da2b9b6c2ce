"""What is answered is what the published JSON Schema says."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from flask import Flask

from flask_knitperf import KnitPerf


def schema(name: str) -> dict[str, Any]:
    text = files("flask_knitperf.analysis").joinpath(f"schemas/{name}.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture
def app() -> Any:
    made = Flask("mill")
    made.config.update(TESTING=True, PROPAGATE_EXCEPTIONS=False)
    perf = KnitPerf(made)

    @made.get("/<name>")
    def view(name: str) -> str:
        with perf.section(name):
            return perf.profile(str.upper)(name) if name != "boom" else str(1 / 0)

    yield made
    made.extensions["knitperf"].close()


@pytest.mark.parametrize("requests", [0, 5])
def test_both_reports_keep_to_their_schemas(app: Flask, requests: int) -> None:
    client = app.test_client()
    for _ in range(requests):
        for path in ("/a", "/boom", "/none/such"):
            client.get(path)
    session = app.extensions["knitperf"]
    session.collector.gauges()
    session.collector.collect("asked for")
    for name, document in (("report-1", session.report()), ("memory-1", session.memory())):
        jsonschema.Draft202012Validator.check_schema(schema(name))
        jsonschema.validate(json.loads(json.dumps(document, allow_nan=False)), schema(name))


def test_a_schema_refuses_what_it_does_not_name(app: Flask) -> None:
    document = {**app.extensions["knitperf"].report(), "more": 1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema("report-1"))
