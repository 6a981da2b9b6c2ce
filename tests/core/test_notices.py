"""Warnings point at the application's line, and a migration warning is issued once."""

from __future__ import annotations

import threading
import time
import warnings

import pytest

from flask_knitperf.core import notices
from flask_knitperf.core.notices import MigrationWarning, warn, warn_once
from flask_knitperf.frames import optimize_dataframe


@pytest.fixture(autouse=True)
def no_warning_issued_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_issued", set())


def test_a_warning_names_the_line_that_called_the_package() -> None:
    with pytest.warns(UserWarning, match="^direct$") as caught:
        warn("direct", UserWarning)
    assert caught[0].filename == __file__
    with pytest.warns(MigrationWarning) as caught:
        optimize_dataframe(None, aggressive=True)
    assert caught[0].filename == __file__


def test_a_migration_warning_is_issued_once_per_message() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for message in ("one", "other", "one"):
            warn_once(message)
    assert [str(warning.message) for warning in caught] == ["one", "other"]
    assert {warning.category for warning in caught} == {MigrationWarning}


def test_a_migration_warning_is_issued_once_by_threads_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class SlowSet(set[str]):
        def __contains__(self, message: object) -> bool:
            known = super().__contains__(message)
            time.sleep(0.01)  # other threads run between the check and the addition
            return known

    monkeypatch.setattr(notices, "_issued", SlowSet())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=warn_once, args=("one",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(caught) == 1
