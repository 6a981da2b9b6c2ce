"""``flask knitperf cache warm``: every worker loads, and the outcome is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.cli.commands import knitperf
from flask_knitperf.render import warming_text
from flask_knitperf.storage.warm_progress import Progress

Choose = Callable[[], list[str]]


class Mill:
    """An application whose worker is this process, and its command line."""

    def __init__(self, state: Path) -> None:
        self.app = Flask("mill")
        self.app.config.update(KNITPERF_STATE_DIR=str(state), KNITPERF_SAMPLER=False)
        self.perf = KnitPerf(self.app)
        if "knitperf" not in self.app.cli.commands:
            self.app.cli.add_command(knitperf)
        self.app.add_url_rule("/", "index", lambda: "x")

    def warm(self, load: Callable[[str], Any], *arguments: str) -> None:
        self.kept = self.perf.cache.cached(warm=lambda: arguments, namespace="shop")(load)

    def run(self, *arguments: str) -> Any:
        self.app.test_client().get("/")
        command = ["knitperf", "cache", "warm", *arguments]
        return self.app.test_cli_runner().invoke(args=command)


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Mill]:
    mill = Mill(tmp_path / "state")
    yield mill
    mill.app.extensions["knitperf"].close()


@pytest.mark.slow
def test_values_are_loaded_in_the_workers(mill: Mill) -> None:
    loads: list[str] = []
    mill.warm(loads.append, "a", "b")
    result = mill.run()
    assert result.exit_code == 0
    assert "1 of 1 worker ended.\n" in result.output
    assert sorted(loads) == ["a", "b"]
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.slow
def test_a_load_that_raises_is_an_exit_code(mill: Mill) -> None:
    mill.warm(lambda style: 1 // (style == "a"), "a", "b")
    result = mill.run("shop", "--seconds", "5")
    assert (result.exit_code, "1 raised an error.\n" in result.output) == (1, True)


@pytest.mark.slow
def test_an_unknown_namespace_is_an_error_of_the_worker(mill: Mill) -> None:
    mill.warm(lambda style: style, "a")
    result = mill.run("nosuch")
    assert result.exit_code == 1
    assert "has the namespace nosuch; there are shop" in " ".join(result.output.split())


@pytest.mark.slow
def test_nothing_to_load_is_an_exit_code(mill: Mill) -> None:
    mill.perf.cache.cached(lambda: 1)
    result = mill.run()
    assert (result.exit_code, "nothing to load" in result.output) == (1, True)


@pytest.mark.slow
def test_without_a_worker_it_is_an_error(mill: Mill) -> None:
    mill.app.test_client().get("/")
    mill.app.extensions["knitperf"].close()
    result = mill.app.test_cli_runner().invoke(args=["knitperf", "cache", "warm"])
    assert result.exit_code == 1
    assert "no running worker found in" in result.output


@pytest.mark.slow
def test_the_group_shows_the_use_of_the_cache_as_before(mill: Mill) -> None:
    mill.app.test_client().get("/")
    result = mill.app.test_cli_runner().invoke(args=["knitperf", "cache", "--window", "run"])
    assert result.exit_code == 0
    assert "Nothing is cached yet." in result.output


# -- texts ---------------------------------------------------------------------------------------------


def test_the_bar_is_the_share_of_all_workers() -> None:
    rows = [Progress("1", done=5, total=10), Progress("1", done=10, total=10)]
    assert warming_text.bar(rows) == "[##################------] 75 % of 20 values, 2 workers"
    assert warming_text.bar([]) == "Warming the cache: waiting for the workers"


def test_the_outcome_is_complete_within_eighty_columns() -> None:
    done = Progress(
        "1", ended=True, total=12, warmed=4, fresh=3, failed=2, refused=1, left=2, seconds=0.5,
        skipped={"shop.total": "it reads data of the request that is not in its key"},
    )  # fmt: skip
    text = warming_text.outcome({"w1": done}, {"w2": "an error"}, ["w1", "w2", "w3"])
    assert text == (
        "1 of 3 workers ended.\n4 values were loaded in 500 ms.\n3 cached already.\n"
        "2 raised an error.\n1 could not be cached.\n2 left for want of time or room.\n"
        "shop.total is not warmed: it reads data of the request that is not in its key.\n"
        "w2: an error"
    )
