"""Fixtures for the tests of the sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_knitperf.recording.recorder import Recorder

from .applications import SampledApplication


@pytest.fixture
def sampled(make_app: Callable[..., Any]) -> Iterator[SampledApplication]:
    application = SampledApplication(make_app(TESTING=True))
    yield application
    application.done.set()
    application.sampler.stop()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder(lambda: (None, {}), threaded=lambda: False)
    yield recorder
    recorder.close()
