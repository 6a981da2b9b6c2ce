"""Instrumentation of the engines of Flask-SQLAlchemy, without any code in the application."""

from __future__ import annotations

from flask import Flask

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
