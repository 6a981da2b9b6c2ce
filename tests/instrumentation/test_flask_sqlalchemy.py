"""Engines of Flask-SQLAlchemy are watched from the first application context on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask, appcontext_pushed

from flask_knitperf import KnitPerf
from flask_knitperf.collectors.sql.sqlalchemy import listener_of, uninstrument


def application(folder: Path, **config: Any) -> tuple[Flask, Any]:
    """Return an application whose database is initialised after KnitPerf, and the database."""
    extension = pytest.importorskip("flask_sqlalchemy")
    app = Flask("mill")
    app.config.update(
        TESTING=True, SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder / 'mill.db'}", **config
    )
    KnitPerf(app)
    return app, extension.SQLAlchemy(app)


def end(app: Flask, database: Any) -> None:
    with app.app_context():
        uninstrument(database.engine)
        database.engine.dispose()
    app.extensions["knitperf"].close()


def test_a_command_without_a_request_has_its_engines_watched(tmp_path: Path) -> None:
    app, database = application(tmp_path)
    with app.app_context():
        assert listener_of(database.engine) is not None
    end(app, database)


def test_later_contexts_are_not_listened_to(tmp_path: Path) -> None:
    app, database = application(tmp_path)
    assert list(appcontext_pushed.receivers_for(app))
    with app.app_context():
        pass
    assert not list(appcontext_pushed.receivers_for(app))
    end(app, database)


def test_a_context_before_the_extension_changes_nothing(tmp_path: Path) -> None:
    extension = pytest.importorskip("flask_sqlalchemy")
    app = Flask("mill")
    app.config.update(TESTING=True, SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'mill.db'}")
    KnitPerf(app)
    with app.app_context():
        pass
    database = extension.SQLAlchemy(app)
    with app.app_context():
        assert listener_of(database.engine) is not None
    end(app, database)


def test_engines_are_left_alone_where_queries_are_off(tmp_path: Path) -> None:
    app, database = application(tmp_path, KNITPERF_QUERIES=False)
    with app.app_context():
        assert listener_of(database.engine) is None
    end(app, database)
