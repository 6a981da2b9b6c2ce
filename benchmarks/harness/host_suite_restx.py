"""Fixtures for the test suite of Flask-RESTX, whose source distribution lacks its ``conftest.py``.

Written after the tests, from what they use. It is loaded in the environment of the suite, as a plugin
of pytest: an application and an ``Api`` on a blueprint, with the options of the marker ``api``; a client
that reads JSON; the request of the marker ``request_context``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient


class JsonClient(FlaskClient):
    """Test client with the methods that the tests call."""

    def get_json(self, url: str, status: int = 200, **options: Any) -> Any:
        """Return the document of a response."""
        return _document(self.get(url, **options), status)

    def post_json(self, url: str, data: Any, status: int = 200, **options: Any) -> Any:
        """Send a document; return that of the response."""
        return _document(self.post(url, json=data, **options), status)

    def get_specs(self, prefix: str = "", status: int = 200, **options: Any) -> Any:
        """Return the specification of an API."""
        return self.get_json(f"{prefix}/swagger.json", status, **options)


def _document(response: Any, status: int) -> Any:
    assert (response.status_code, response.content_type) == (status, "application/json")
    return json.loads(response.get_data(as_text=True))


@pytest.fixture
def app() -> Flask:
    """An application whose test client reads JSON."""
    app = Flask("restx_suite")
    app.test_client_class = JsonClient
    return app


@pytest.fixture
def api(request: pytest.FixtureRequest, app: Flask) -> Any:
    """An API on a blueprint of the application."""
    import flask_restx

    marker = request.node.get_closest_marker("api")
    options = {} if marker is None else dict(marker.kwargs)
    places = {"prefix": "url_prefix", "subdomain": "subdomain"}
    blueprint = Blueprint(
        "api", "restx_suite", **{own: options.pop(name) for name, own in places.items()
                                 if name in options}
    )  # fmt: skip
    api = flask_restx.Api(blueprint, **options)
    app.register_blueprint(blueprint)
    return api


@pytest.fixture
def mock_app(mocker: Any) -> Any:
    """Mock of an application, with what registering an API reads and writes."""
    import flask_restx

    mocker.patch.object(flask_restx.Api, "_configure_namespace_logger")
    return mocker.Mock(Flask, view_functions={}, extensions={}, config={})


@pytest.fixture(autouse=True)
def requested(request: pytest.FixtureRequest, app: Flask) -> Iterator[None]:
    """The request that a test declares."""
    marker = request.node.get_closest_marker("request_context")
    if marker is None:
        yield
        return
    with app.test_request_context(*marker.args, **marker.kwargs):
        yield
