"""Values are loaded before a call needs them: within bounds, counted apart, and only while used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.caching.dependencies import Declared, File, declared
from flask_knitperf.caching.function_cache import FunctionCache
from flask_knitperf.caching.warm_calls import Call
from flask_knitperf.caching.warm_record import RecordedCall
from flask_knitperf.caching.warm_schedule import QUIET_S, WarmSchedule
from flask_knitperf.caching.warming import (
    ALONE_S,
    MAX_ERRORS,
    Due,
    Pace,
    WarmCounts,
    Warmer,
)
from flask_knitperf.core.errors import KnitPerfError

from .conftest import Cache

NOTHING = Declared(auto=False)
WALL = 1_800_000_000.0


class Mill:
    """Cached functions that are warmed, with a clock that the test moves."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.functions: list[FunctionCache] = []
        self.warmer = Warmer(lambda: self.functions, cache.store, clock=cache.clock)
        self.schedule = WarmSchedule(cache.clock)

    def warm(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Return a cached function that is warmed; each load takes ``cost`` seconds."""
        options = {"warm": True, "depends": NOTHING, **options}
        cost = options.pop("cost", 0.1)

        def load(style: Any, quantity: int = 1) -> Any:
            self.cache.now += cost
            self.cache.loads.append(style)
            return f"{style} {quantity}" if function is None else function(style)

        cached = self.cache.cached(load, **options)
        self.functions.append(cached.cache)
        return cached

    def recorded(self) -> list[RecordedCall]:
        return self.warmer.recorded(WALL)

    def run(self, *due: Due, seconds: float = 10.0, pace: Pace | None = None) -> WarmCounts:
        return self.warmer.run(due, self.warmer.bounds(seconds), pace)

    def start(self, record: list[RecordedCall], seconds: float = 10.0) -> WarmCounts:
        """Do what a process does at its start."""
        bounds = self.warmer.bounds(seconds)
        due = self.warmer.at_start(record, bounds, self.warmer.functions())
        return self.warmer.run(due, bounds)

    def restart(self) -> Mill:
        """Return another process with the same functions."""
        mill = Mill(Cache())
        for one in self.functions:
            mill.warm(namespace=one.options.namespace, warm=one.options.warm)
        return mill


@pytest.fixture
def mill(cache: Cache) -> Mill:
    return Mill(cache)


def use(function: Any, *styles: Any, times: int = 3) -> None:
    for style in styles:
        for _ in range(times):
            function(style)


def counts(function: Any) -> dict[str, Any]:
    from flask_knitperf.caching.region import counts

    row = counts([function.cache.region])
    return {name: row[name] for name in ("hits", "misses", "warmed")}  # type: ignore[literal-required]


# -- at the start ------------------------------------------------------------------------------------


def test_the_next_process_begins_with_the_calls_of_the_former_one(mill: Mill) -> None:
    total = mill.warm()
    use(total, "a", ("b", 2))
    mill.cache.loads.clear()
    after = mill.restart()
    assert after.start(mill.recorded())["warmed"] == 2
    assert sorted(map(str, after.cache.loads)) == ["('b', 2)", "a"]


def test_warmed_values_are_hits_and_no_misses(mill: Mill) -> None:
    use(mill.warm(), "a")
    after = mill.restart()
    total = after.warm(namespace="of the test")
    after.run(Due(total.cache, Call(("a",), {})))
    assert total("a") == "a 1"
    assert counts(total) == {"hits": 1, "misses": 0, "warmed": 1}


def test_the_most_used_calls_are_loaded_first(mill: Mill) -> None:
    total = mill.warm()
    use(total, "rare", times=2)
    use(total, "often", times=9)
    after = mill.restart()
    after.start(mill.recorded())
    assert after.cache.loads == ["often", "rare"]


def test_a_call_that_was_never_repeated_is_not_recorded(mill: Mill) -> None:
    use(mill.warm(), "a", times=1)
    assert mill.recorded() == []


def test_only_functions_that_chose_it_are_recorded(mill: Mill) -> None:
    use(mill.warm(warm=False), "a")
    assert mill.recorded() == []
    assert mill.warmer.functions() == []


def test_a_call_with_other_arguments_than_plain_data_is_not_recorded(mill: Mill) -> None:
    use(mill.warm(), ["a"])
    assert mill.recorded() == []


def test_functions_with_one_name_are_not_recorded(mill: Mill) -> None:
    one, two = mill.warm(), mill.warm()
    use(one, "a")
    use(two, "b")
    assert mill.recorded() == []


def test_functions_with_one_name_and_two_namespaces_are_apart(mill: Mill) -> None:
    use(mill.warm(namespace="one"), "a")
    use(mill.warm(namespace="two"), "b")
    after = mill.restart()
    after.start(mill.recorded())
    assert [list(one.region.entries) for one in after.functions] == [[("a", 1)], [("b", 1)]]


def test_a_function_chooses_the_calls_to_begin_with_and_none_are_recorded(mill: Mill) -> None:
    total = mill.warm(warm=lambda: iter([("a", 5), "b", ()]))
    use(total, "c")
    assert mill.recorded() == []
    outcome = mill.start([])
    assert (outcome["warmed"], outcome["failed"]) == (2, 1)
    assert set(total.cache.region.entries) == {("a", 5), ("b", 1), ("c", 1)}


def test_a_function_that_cannot_choose_is_left_alone(mill: Mill) -> None:
    def choose() -> list[Any]:
        raise RuntimeError("no database")

    mill.warm(warm=choose)
    assert mill.start([])["total"] == 0


def test_a_text_in_place_of_a_list_of_arguments_is_an_error(
    mill: Mill, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    mill.warm(warm=lambda: "ab")
    assert mill.start([])["total"] == 0
    assert "in place of a list" in caplog.text


def test_a_recorded_call_that_no_longer_fits_is_dropped(mill: Mill) -> None:
    use(mill.warm(), "a")
    record = [row._replace(arguments={"nosuch": 1}) for row in mill.recorded()]
    assert mill.restart().start(record)["total"] == 0


def test_a_value_that_is_cached_already_is_not_loaded_again(mill: Mill) -> None:
    use(mill.warm(), "a")
    assert mill.start(mill.recorded()) | {"seconds": 0} == {
        "total": 1, "warmed": 0, "fresh": 1, "failed": 0, "refused": 0, "left": 0, "seconds": 0,
        "skipped": {},
    }  # fmt: skip
    assert counts(mill.functions[0].wrapper) == {"hits": 2, "misses": 1, "warmed": 0}


# -- bounds ------------------------------------------------------------------------------------------


def test_loading_ends_with_the_time_of_the_round(mill: Mill) -> None:
    total = mill.warm(cost=1.0)
    due = [Due(total.cache, Call((number,), {})) for number in range(9)]
    outcome = mill.run(*due, seconds=2.5)
    assert (outcome["warmed"], outcome["left"], outcome["seconds"]) == (3, 6, 3.0)


def test_values_take_half_of_the_room(mill: Mill) -> None:
    mill.cache.store.maxsize = 100_000
    total = mill.warm(lambda _: "x" * 15_000)
    due = [Due(total.cache, Call((number,), {}), None, 16_000) for number in range(9)]
    outcome = mill.run(*due)
    assert (outcome["warmed"], outcome["left"]) == (3, 6)
    assert mill.cache.store.evicted == 0


def test_a_value_that_replaces_another_one_needs_no_room(mill: Mill) -> None:
    mill.cache.store.maxsize = 40_000
    total = mill.warm(lambda _: "x" * 30_000)
    total("a")
    (entry,) = total.cache.region.entries.values()
    assert mill.run(Due(total.cache, entry.call, entry, 30_000))["warmed"] == 1


def test_a_round_that_is_stopped_leaves_the_rest(mill: Mill) -> None:
    class Stopped(Pace):
        def wait(self) -> bool:
            return len(mill.cache.loads) < 2

    total = mill.warm()
    due = [Due(total.cache, Call((number,), {})) for number in range(5)]
    outcome = mill.run(*due, pace=Stopped())
    assert (outcome["warmed"], outcome["left"]) == (2, 3)


def test_a_pause_follows_each_load_also_one_that_raises(mill: Mill) -> None:
    rests: list[float] = []

    class Noted(Pace):
        def rest(self, seconds: float) -> None:
            rests.append(round(seconds, 6))

    total = mill.warm(lambda style: 1 / style, cost=0.5)
    due = [Due(total.cache, Call((number,), {})) for number in range(2)]
    mill.run(*due, pace=Noted())
    assert rests == [0.5, 0.5]


# -- errors ------------------------------------------------------------------------------------------


def test_one_call_that_raises_does_not_stop_the_others(mill: Mill) -> None:
    total = mill.warm(lambda style: 1 / style)
    outcome = mill.run(*(Due(total.cache, Call((number,), {})) for number in range(4)))
    assert (outcome["failed"], outcome["warmed"]) == (1, 3)


def test_a_function_that_keeps_raising_is_left_alone_for_a_while(mill: Mill) -> None:
    total = mill.warm(lambda style: 1 / 0)
    due = [Due(total.cache, Call((number,), {})) for number in range(9)]
    outcome = mill.run(*due)
    assert outcome["failed"] == MAX_ERRORS == len(mill.cache.loads)
    assert list(outcome["skipped"].values()) == [f"{MAX_ERRORS} loads raised one after the other"]
    mill.run(*due)
    assert len(mill.cache.loads) == MAX_ERRORS
    mill.cache.now += ALONE_S
    mill.run(*due)
    assert len(mill.cache.loads) == 2 * MAX_ERRORS


def test_the_first_error_of_a_function_is_logged(
    mill: Mill, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    total = mill.warm(lambda style: 1 / 0)
    mill.run(*(Due(total.cache, Call((number,), {})) for number in range(2)))
    assert len([one for one in caplog.messages if "could not be warmed" in one]) == 1


def test_a_result_that_cannot_be_cached_is_refused(mill: Mill) -> None:
    total = mill.warm(iter)
    assert mill.run(Due(total.cache, Call(("a",), {})))["refused"] == 1


def test_a_namespace_without_such_a_function_is_an_error(mill: Mill) -> None:
    mill.warm(namespace="shop")
    with pytest.raises(KnitPerfError, match="namespace mill; there are shop"):
        mill.warmer.functions(["mill"])


# -- nested calls ------------------------------------------------------------------------------------


def test_cached_functions_within_a_load_count_neither_hits_nor_misses(mill: Mill) -> None:
    inner = mill.warm(namespace="inner")
    outer = mill.warm(lambda style: inner("a"), namespace="outer")
    mill.run(*(Due(outer.cache, Call((number,), {})) for number in range(3)))
    assert counts(outer) == {"hits": 0, "misses": 0, "warmed": 3}
    assert counts(inner) | {"hits": 0} == {"hits": 0, "misses": 0, "warmed": 1}


# -- before the expiry -------------------------------------------------------------------------------


def due(mill: Mill) -> list[Any]:
    """Return the arguments of the calls that are due."""
    return [one.call.args[0] for one in mill.schedule.due(mill.functions)]


def test_a_value_in_use_is_due_shortly_before_it_expires(mill: Mill) -> None:
    use(mill.warm(ttl=60.0), "a")
    assert due(mill) == []
    mill.cache.now += 57.9
    assert due(mill) == ["a"]


def test_the_calls_of_a_refreshed_value_never_miss(mill: Mill) -> None:
    total = mill.warm(ttl=60.0)
    for _ in range(5):
        use(total, "a")
        mill.cache.now += 58.5
        mill.run(*mill.schedule.due(mill.functions))
    assert counts(total)["misses"] == 1
    assert counts(total)["warmed"] == 5


def test_a_value_that_no_call_needs_any_more_expires(mill: Mill) -> None:
    use(mill.warm(ttl=60.0), "a", times=2)  # one hit
    mill.cache.now += 59
    assert due(mill) == []


def test_a_value_is_due_once_also_if_its_load_fails(mill: Mill) -> None:
    use(mill.warm(ttl=60.0), "a")
    mill.cache.now += 58.5
    assert due(mill) == ["a"]
    assert due(mill) == []


def test_a_load_that_raises_before_the_expiry_leaves_the_old_value(mill: Mill) -> None:
    broken = False

    def load(style: str) -> str:
        if broken:
            raise RuntimeError("no database")
        return style

    total = mill.warm(load, ttl=60.0)
    use(total, "a")
    mill.cache.now += 58.5
    broken = True
    assert mill.run(*mill.schedule.due(mill.functions))["failed"] == 1
    assert total("a") == "a"


def test_an_expensive_value_is_due_earlier_and_never_in_the_first_half(mill: Mill) -> None:
    use(mill.warm(ttl=60.0, cost=10.0, namespace="slow"), "a")
    use(mill.warm(ttl=60.0, cost=100.0, namespace="slower"), "b")
    assert due(mill) == []
    mill.cache.now += 31
    assert due(mill) == ["b"]


# -- after a change ----------------------------------------------------------------------------------


def test_an_invalidated_value_in_use_is_due_once_it_is_quiet(mill: Mill) -> None:
    use(mill.warm(), "a")
    mill.cache.invalidation.namespace("n")
    assert due(mill) == []
    mill.cache.now += QUIET_S - 0.1
    assert due(mill) == []
    mill.cache.now += 0.1
    assert due(mill) == ["a"]


def test_further_changes_put_it_off(mill: Mill) -> None:
    use(mill.warm(), "a")
    for _ in range(5):
        mill.cache.invalidation.namespace("n")
        assert due(mill) == []
        mill.cache.now += QUIET_S - 0.1
    mill.cache.now += 0.2
    assert due(mill) == ["a"]


def test_a_value_that_was_loaded_meanwhile_is_not_due(mill: Mill) -> None:
    total = mill.warm()
    use(total, "a")
    mill.cache.invalidation.namespace("n")
    due(mill)
    total("a")
    mill.cache.now += QUIET_S
    assert due(mill) == []


def test_values_of_a_table_that_changes_before_they_are_used_are_not_loaded(mill: Mill) -> None:
    total = mill.warm()
    use(total, "a")
    for _ in range(5):
        mill.cache.invalidation.namespace("n")
        due(mill)
        mill.cache.now += QUIET_S
        mill.run(*mill.schedule.due(mill.functions))
    assert counts(total)["warmed"] == 1


def test_a_value_of_a_changed_file_is_due_once_it_is_quiet(mill: Mill, tmp_path: Path) -> None:
    path = tmp_path / "prices"
    use(mill.warm(depends=declared([File(path)])), "a")
    path.write_text("2")
    mill.cache.now += 2  # files are looked at once a second
    assert due(mill) == []
    path.write_text("three")
    mill.cache.now += QUIET_S
    assert due(mill) == []
    mill.cache.now += QUIET_S
    assert due(mill) == ["a"]


def test_a_value_that_was_replaced_is_not_loaded_again(mill: Mill) -> None:
    total = mill.warm(ttl=60.0)
    use(total, "a")
    mill.cache.now += 58.5
    (row,) = mill.schedule.due(mill.functions)
    mill.cache.now += 2
    total("a")
    assert mill.run(row)["fresh"] == 1
