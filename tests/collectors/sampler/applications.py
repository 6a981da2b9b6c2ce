"""An application whose requests stand still while a test samples them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_knitperf.analysis.hot_lines import top_lines, whole
from flask_knitperf.collectors.sampler.sampler import Sampler
from flask_knitperf.collectors.sampler.thread_clocks import ThreadClocks

MS = 1_000_000
linux = pytest.mark.skipif(sys.platform != "linux", reason="thread clocks need Linux")


def wait_for_rest(thread: threading.Thread) -> None:
    """Wait until a thread uses no CPU time any more."""
    clocks, before = ThreadClocks(), None
    while (now := clocks.cpu_ns(thread.ident or 0)) != before:
        before = now
        time.sleep(0.02)
    clocks.close()


class SampledApplication:
    """An application, and a sampler whose ticks are called by the test.

    Attributes:
        done: set when the views may end.
        meanwhile: called within the window of each tick.
    """

    def __init__(self, mill: Any) -> None:
        self.mill = mill
        self.session = mill.session
        self.done = threading.Event()
        self.sampler = Sampler(
            self.session.recorder, self.session.samples, pause=self._pause,
            root_frames=(Flask.wsgi_app.__code__,),
            is_async=lambda endpoint: endpoint == "awaiting",
        )  # fmt: skip
        self.meanwhile: Callable[[], Any] = lambda: None

    def _pause(self, seconds: float) -> None:
        self.meanwhile()
        time.sleep(seconds)

    def sample_view(
        self, view: Callable[[], Any], inside: threading.Event, ticks: int = 3, rests: bool = False,
        late: float = 0.0,
    ) -> None:  # fmt: skip
        """Serve a view in a thread, and sample it while it runs.

        Args:
            view: function of the view.
            inside: set by the view.
            ticks: number of ticks.
            rests: whether to wait until the view's thread uses no CPU time any more.
            late: delay of the ticks in seconds.
        """
        self.mill.app.add_url_rule("/v", "v", lambda: str(view())[:0])
        thread = threading.Thread(target=self.mill.get, args=("/v",))
        thread.start()
        assert inside.wait(10)
        if rests:
            wait_for_rest(thread)
        for _ in range(ticks):
            self.sampler.tick(late)
        self.done.set()
        thread.join(10)
        self.sampler.tick()

    def lines(self, endpoint: str = "v") -> list[Any]:
        tries = self.session.details.read(None, 0, 0)
        return top_lines(whole(tries.get((endpoint, "GET"), {})))
