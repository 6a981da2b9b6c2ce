"""What is answered is what the published JSON Schema says."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from flask import Flask
from referencing import Registry

from flask_knitperf import KnitPerf
from flask_knitperf.metrics.stack_trie import Place, Sampled


def schema(name: str) -> dict[str, Any]:
    text = files("flask_knitperf.reports").joinpath(f"schemas/{name}.json").read_text()
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
    session.keeping.collector.record_gauges()
    session.keeping.collector.collect("asked for")
    check("report-1", session.report())
    check("memory-1", session.memory())


def check(name: str, document: dict[str, Any]) -> None:
    """Hold a document against its schema, and that against what a schema is."""
    jsonschema.Draft202012Validator.check_schema(schema(name))
    known = Registry().with_contents([(schema("report-1")["$id"], schema("report-1"))])
    validator = jsonschema.Draft202012Validator(schema(name), registry=known)
    validator.validate(json.loads(json.dumps(document, allow_nan=False)))


@pytest.mark.parametrize("against", [None, "run"])
def test_an_endpoint_and_a_request_keep_to_their_schemas(app: Flask, against: str | None) -> None:
    for path in ("/a", "/boom"):
        app.test_client().get(path)
    session = app.extensions["knitperf"]
    session.samples.add(("view", "GET"), 9, Sampled({(Place("a.py", 1, "f", True),): [5, 4, 1, 0]}))
    document = session.why("view", other=against).document
    check("why-1", document)
    assert len(document["requests"]["latest"]) == 2
    for row in document["requests"]["latest"]:
        check("request-1", session.request(row["id"])[0])


def test_a_schema_refuses_what_it_does_not_name(app: Flask) -> None:
    document = {**app.extensions["knitperf"].report(), "more": 1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema("report-1"))
