"""Saving that a finding on slow requests predicts, against the saving of its repair.

Each case is a view in two forms that answer the same: with a known cause, and with the repair that the
report advises. The sampling profiler runs. Sizes, delays and the work beside the cause are drawn per
seed.
"""

from __future__ import annotations

import gc
import http.server
import random
import re
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flask import Flask

from flask_knitperf import KnitPerf

from ..harness.outcome import Outcome
from ..harness.savings import SEEDS, Saving, add_view, judged, served

PAIRS = 25
SAMPLED_S = 5.0
_COLORS = ("ecru", "navy", "red", "moss")


class Mill:
    """Views in both forms.

    Args:
        seed: of the sizes.
        port: of the slow service.
    """

    def __init__(self, seed: int, port: int) -> None:
        generator = random.Random(seed)
        self.rows = generator.randint(3000, 7000)
        self.calls = generator.randint(2, 4)
        self.delays = [generator.uniform(0.015, 0.05) for _ in range(2)]
        self._turns = generator.choice((0, 60_000, 150_000, 400_000))
        self._port = port
        self.codes = [f"L{generator.randint(1, 10**7)}" for _ in range(generator.randint(300, 800))]
        self.patterns = {code: re.compile(_pattern(code)) for code in self.codes}
        self.orders = pd.DataFrame({
            "style": [f"S{generator.randint(1, 80)}" for _ in range(self.rows)],
            "kg": np.arange(self.rows) * 0.5,
            "price": np.arange(self.rows) % 17 + 1.0,
        })  # fmt: skip
        self.styles = sorted(set(self.orders["style"]))
        self.pieces = [self.orders.iloc[n : n + 20] for n in range(0, self.rows, 20)]

    def beside(self) -> int:
        """Do the work that no repair concerns."""
        return sum(number * number % 7 for number in range(self._turns)) % 2

    # -- services ----------------------------------------------------------------------------------

    def _call(self, host: str, delay: float) -> str:
        with urllib.request.urlopen(f"http://{host}:{self._port}/{delay}", timeout=10) as answer:
            return str(answer.read().decode())

    def serial_calls(self, repaired: bool) -> Any:
        """Call one service several times."""
        hosts, delays = ["127.0.0.1"] * self.calls, [self.delays[0]] * self.calls
        return [self.beside(), self._answers(hosts, delays, repaired)]

    def serial_calls_of_two_services(self, repaired: bool) -> Any:
        """Call two services, one after the other."""
        return [self.beside(), self._answers(["127.0.0.1", "localhost"], self.delays, repaired)]

    def _answers(self, hosts: list[str], delays: list[float], repaired: bool) -> list[str]:
        if not repaired:
            return [self._call(host, delay) for host, delay in zip(hosts, delays, strict=True)]
        with ThreadPoolExecutor(len(hosts)) as pool:
            return list(pool.map(self._call, hosts, delays))

    # -- computing ---------------------------------------------------------------------------------

    def patterns_compiled(self, repaired: bool) -> Any:
        """Compile a regular expression for each code."""
        matched = 0
        for code in self.codes:
            pattern = self.patterns[code] if repaired else re.compile(_pattern(code))
            matched += pattern.search(f"lot {code}-17 merino") is not None
            if not repaired:
                re.purge()  # as in an application with more patterns than re keeps
        return [self.beside(), matched]

    def garbage_collections(self, repaired: bool) -> Any:
        """Build many small lists."""
        if repaired:
            gc.disable()
        try:
            table = [[number, [number + 1], {"kg": number}] for number in range(self.rows * 12)]
            return [self.beside(), len(table)]
        finally:
            gc.enable()

    # -- pandas ------------------------------------------------------------------------------------

    def loop_over_rows(self, repaired: bool) -> Any:
        """Sum by iterrows."""
        if repaired:
            heavy = self.orders[self.orders["kg"] > 20]
            return [self.beside(), float((heavy["kg"] * heavy["price"]).sum())]
        total = 0.0
        for _, row in self.orders.iterrows():
            if row["kg"] > 20:
                total += row["kg"] * row["price"]
        return [self.beside(), float(total)]

    def function_for_each_row(self, repaired: bool) -> Any:
        """Compute a column by apply(axis=1)."""
        if repaired:
            column = self.orders["kg"] * self.orders["price"] + 1
        else:
            column = self.orders.apply(lambda row: row["kg"] * row["price"] + 1, axis=1)
        return [self.beside(), float(column.sum())]

    def cells(self, repaired: bool) -> Any:
        """Read single cells."""
        if repaired:
            total = float(self.orders["kg"].to_numpy().sum())
        else:
            total = sum(float(self.orders.loc[n, "kg"]) for n in range(self.rows))
        return [self.beside(), total]

    def filter_for_each_style(self, repaired: bool) -> Any:
        """Filter the whole table once for each style."""
        if repaired:
            groups = dict(iter(self.orders.groupby("style")["kg"]))
            return [self.beside(), [float(groups[style].sum()) for style in self.styles]]
        sums = []
        for style in self.styles:
            part = self.orders[self.orders["style"] == style]
            sums.append(float(part["kg"].sum()))
        return [self.beside(), sums]

    def tables_joined_one_by_one(self, repaired: bool) -> Any:
        """Grow a table piece by piece."""
        if repaired:
            return [self.beside(), len(pd.concat(self.pieces))]
        table = self.pieces[0]
        for piece in self.pieces[1:]:
            table = pd.concat([table, piece])
        return [self.beside(), len(table)]


CASES: tuple[Callable[[Mill, bool], Any], ...] = (
    Mill.serial_calls, Mill.serial_calls_of_two_services, Mill.patterns_compiled,
    Mill.garbage_collections, Mill.loop_over_rows, Mill.function_for_each_row, Mill.cells,
    Mill.filter_for_each_style, Mill.tables_joined_one_by_one,
)  # fmt: skip


def _pattern(code: str) -> str:
    return rf"(lot|batch)\s+{code}-(\d+)(\s+\w+)?$"


class _Service(http.server.BaseHTTPRequestHandler):
    """Answers after the seconds in its path."""

    def do_GET(self) -> None:
        """Answer."""
        time.sleep(float(self.path.strip("/")))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"18")

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def _service() -> Iterator[int]:
    """Run a slow service; yield its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def savings(seed: int, pairs: int, seconds: float) -> list[Saving]:
    """Serve both forms of each case in turn; return predictions and savings.

    Args:
        seed: of the sizes.
        pairs: least number of requests of each form.
        seconds: least total time of the first form of a case, for its samples.
    """
    with tempfile.TemporaryDirectory() as folder, _service() as port:
        mill = Mill(seed, port)
        app = Flask("mill")
        app.config.update(
            KNITPERF_STATE_DIR=str(Path(folder) / "state"), KNITPERF_SAMPLER=True,
            KNITPERF_MODERATE_MS=3, KNITPERF_SLOW_MS=5,
        )  # fmt: skip
        KnitPerf(app)
        for case in CASES:
            add_view(app, case.__name__, lambda repaired, case=case: case(mill, repaired))
        try:
            return list(served(app, [case.__name__ for case in CASES], seed, pairs, seconds))
        finally:
            app.extensions["knitperf"].close()


def run(quick: bool = False) -> Outcome:
    """Measure."""
    rows = [
        saving
        for seed in SEEDS[: 1 if quick else None]
        for saving in savings(seed, *((8, 0.5) if quick else (PAIRS, SAMPLED_S)))
    ]
    what = "saving predicted for calls, patterns, collections and loops against the one measured"
    return judged("savings_time", what, rows)
