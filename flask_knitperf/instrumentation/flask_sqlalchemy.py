"""Flask-SQLAlchemy: its engines are watched, without a line of the application's."""

from __future__ import annotations

from flask import Flask

from ..collectors.sql import sqlalchemy
from ..recording.recorder import Recorder


def watch(app: Flask, recorder: Recorder, *, forked: bool) -> None:
    """Watch the engines of an application that has Flask-SQLAlchemy.

    Args:
        app: the application.
        recorder: told of what fails.
        forked: this process is not the one that made the application; the pools may hold connections of
            that one.
    """
    database = app.extensions.get("sqlalchemy")
    if database is None or not hasattr(type(database), "engines"):
        return
    try:
        with app.app_context():
            engines = list(database.engines.values())
        for engine in engines:
            if forked:
                sqlalchemy.renew(engine)
            sqlalchemy.instrument(engine)
    except Exception as error:
        recorder.failed("engines of Flask-SQLAlchemy", error)
