"""Instrumentation of the engines of Flask-SQLAlchemy, without any code in the application.

They are watched from the first application context on: commands and jobs write to tables too, and
workers that cache results of queries have to be informed.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, appcontext_pushed

from ..recording.recorder import Recorder


def instrument_engines(app: Flask, recorder: Recorder, *, forked: bool) -> None:
    """Instrument the engines of an application that uses Flask-SQLAlchemy. Never raises.

    Args:
        app: the application.
        recorder: counts failures.
        forked: whether this process was forked after the application was created; then the pools may
            hold connections of the parent.
    """
    database = app.extensions.get("sqlalchemy")
    if database is None or not hasattr(type(database), "engines"):
        return
    from ..collectors.sql import sqlalchemy

    try:
        with app.app_context():
            engines = list(database.engines.values())
        for engine in engines:
            if forked:
                sqlalchemy.empty_pool(engine)
            sqlalchemy.instrument(engine)
    except Exception as error:
        recorder.failed("engines of Flask-SQLAlchemy", error)


class EngineWatch:
    """Instruments the engines when the first context of an application is pushed.

    Args:
        app: the application.
        recorder: counts failures.
    """

    def __init__(self, app: Flask, recorder: Recorder) -> None:
        self._recorder, self._installed_by = recorder, recorder.clock.pid()
        appcontext_pushed.connect(self._on_context, app)  # weakly: the session keeps this object

    def _on_context(self, app: Flask, **_: Any) -> None:
        if "sqlalchemy" in app.extensions:
            self.instrument(app)

    def instrument(self, app: Flask) -> None:
        """Instrument the engines now, and no longer wait for a context. Never raises."""
        appcontext_pushed.disconnect(self._on_context, app)
        is_forked = self._recorder.clock.pid() != self._installed_by
        instrument_engines(app, self._recorder, forked=is_forked)
