"""Celery tasks as jobs, through Celery's signals. Only the application imports Celery."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any
from uuid import uuid4

from ..collectors.jobs.jobs import run
from ..collectors.requests.sections import ResolveRecorder


class CeleryTasks:
    """Receivers of Celery's signals, connected as long as this object lives (signals hold it weakly).

    Args:
        resolve: returns the recorder of the application that runs a task.
    """

    def __init__(self, resolve: ResolveRecorder) -> None:
        self._resolve = resolve
        self._running: dict[str, AbstractContextManager[None]] = {}

    def connect(self, signals: ModuleType) -> None:
        """Connect to the signals before and after a task."""
        uid = f"flask_knitperf {uuid4()}"  # Celery takes methods of two objects for one without it
        signals.task_prerun.connect(self._before, dispatch_uid=uid)
        signals.task_postrun.connect(self._after, dispatch_uid=uid)

    def _before(self, task_id: str, task: Any, **_: Any) -> None:
        running = run(self._resolve(), str(task.name))
        running.__enter__()
        self._running[task_id] = running

    def _after(self, task_id: str, state: str | None = None, retval: Any = None, **_: Any) -> None:
        running = self._running.pop(task_id, None)
        if running is None:
            return
        error = _error(state, retval)
        if error is None:
            running.__exit__(None, None, None)
        else:
            running.__exit__(type(error), error, error.__traceback__)


def _error(state: str | None, result: Any) -> BaseException | None:
    """Return the exception that a task has failed with, by its state and result."""
    if state == "FAILURE" and isinstance(result, BaseException):
        return result
    if state is not None:
        return None
    # no state: what ends the task also ends its process, such as an exit or a time limit
    error = sys.exc_info()[1]
    return SystemExit(1) if isinstance(error, SystemExit) else error  # exit code 0 fails it too


def record_tasks(resolve: ResolveRecorder) -> CeleryTasks | None:
    """Record Celery's tasks as jobs, where Celery is imported; the caller keeps the result."""
    signals = sys.modules.get("celery.signals")
    if signals is None:
        return None
    tasks = CeleryTasks(resolve)
    tasks.connect(signals)
    return tasks
