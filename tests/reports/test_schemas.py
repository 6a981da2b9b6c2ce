"""Published documents match their JSON Schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from flask import Flask, request

from flask_knitperf import KnitPerf
from flask_knitperf.metrics.stack_trie import Sampled, StackFrame

OPEN_KEYS = ("status", "dropped", "told_apart", "failed", "invalidated", "detail")
"""Fields whose keys come from data: a missing or additional key is accepted."""


def schema(name: str) -> dict[str, Any]:
    text = files("flask_knitperf.reports").joinpath(f"schemas/{name}.json").read_text()
    document: dict[str, Any] = json.loads(text)
    return document


def check(name: str, document: Any) -> None:
    """Validate a document, and its schema against the meta-schema."""
    jsonschema.Draft202012Validator.check_schema(schema(name))
    as_read = json.loads(json.dumps(document, allow_nan=False))
    jsonschema.Draft202012Validator(schema(name)).validate(as_read)


@pytest.fixture
def app() -> Any:
    app = Flask("mill")
    app.config.update(TESTING=True, PROPAGATE_EXCEPTIONS=False)
    perf = KnitPerf(app)

    @app.get("/<name>")
    def view(name: str) -> str:
        with perf.section(name):
            loaded = load(name), flow()
            return perf.profile(str.upper)(loaded[0]) if name != "boom" else str(1 / 0)

    @perf.cache.cached
    def load(name: str) -> str:
        return name + request.path + str(request.cookies)[:0]

    @perf.cache.cached
    def flow() -> Iterator[int]:
        return iter((1,))

    yield app
    app.extensions["knitperf"].close()


@pytest.mark.parametrize("requests", [0, 5])
def test_both_reports_match_their_schemas(app: Flask, requests: int) -> None:
    client = app.test_client()
    for _ in range(requests):
        for path in ("/a", "/boom", "/none/such"):
            client.get(path)
    session = app.extensions["knitperf"]
    session.memory_jobs.collector.record_gauges()
    session.memory_jobs.collector.collect("requested")
    check("report-1", session.documents.report())
    check("memory-1", session.documents.memory())
    check("cache-1", session.documents.cache())


@pytest.mark.parametrize("against", [None, "run"])
def test_an_endpoint_and_a_request_match_their_schemas(app: Flask, against: str | None) -> None:
    for path in ("/a", "/boom"):
        app.test_client().get(path)
    session = app.extensions["knitperf"]
    session.samples.add(
        ("view", "GET"), 9, Sampled({(StackFrame("a.py", 1, "f", True),): [5, 4, 1, 0]})
    )
    document = session.documents.why("view", other=against).document
    check("why-1", document)
    assert len(document["requests"]["latest"]) == 2
    for row in document["requests"]["latest"]:
        check("request-1", session.documents.request(row["id"])[0])


def test_a_schema_refuses_an_unnamed_property(app: Flask) -> None:
    document = {**app.extensions["knitperf"].documents.report(), "more": 1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema("report-1"))


def test_a_schema_refuses_every_missing_renamed_or_mistyped_field(app: Flask) -> None:
    for path in ("/a", "/boom"):
        app.test_client().get(path)
    session = app.extensions["knitperf"]
    session.memory_jobs.collector.record_gauges()
    session.memory_jobs.collector.collect("requested")
    opened = session.documents.why("view", other="run").document
    documents = {
        "report-1": session.documents.report(), "memory-1": session.documents.memory(),
        "queries-1": session.documents.queries(), "why-1": opened,
        "cache-1": session.documents.cache(),
        "request-1": session.documents.request(opened["requests"]["latest"][0]["id"])[0],
    }  # fmt: skip
    for name, document in documents.items():
        validator = jsonschema.Draft202012Validator(schema(name))
        accepted = [path for path, changed in _mutants(document) if validator.is_valid(changed)]
        assert accepted == [], name


def _mutants(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield a document with one field missing, renamed or of another type, for every field."""
    copy = json.loads(json.dumps(document))
    for path, parent, key in list(_fields(copy)):
        value = parent.pop(key)
        yield f"{path} missing", copy
        parent[f"{key}_"] = value
        yield f"{path} renamed", copy
        del parent[f"{key}_"]
        for mistyped in (["x", {}, 1.5], {"x": []}):
            if not isinstance(mistyped, type(value)) and (key, type(mistyped)) != ("detail", dict):
                parent[key] = mistyped
                yield f"{path} = {mistyped}", copy
        parent[key] = value


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield path, object and key of every field that a schema names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}", value, key
            if key not in OPEN_KEYS:
                yield from _fields(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value[:3]:
            yield from _fields(inner, f"{path}[]")
