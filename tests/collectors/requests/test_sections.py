"""Sections, profiled functions and instrumented services."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_knitperf import KnitPerf, KnitPerfError
from tests.instrumentation.calls import fail

# -- sections ---------------------------------------------------------------------------------------


def test_a_section_is_a_part_with_its_exclusive_time(timed: Any, time: Any) -> None:
    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        with timed.perf.section("outer"):
            time.pass_(0.1)
            with timed.perf.section("inner"):
                time.pass_(0.3)
            time.pass_(0.1)
        return "x"

    timed.get("/it")
    times = {name: part["ms"] for name, part in timed.parts("it").items()}
    assert times == {"section:inner": 300, "section:outer": 200}


def test_a_section_that_fails_is_closed_and_passes_the_error_on(timed: Any, time: Any) -> None:
    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        try:
            with timed.perf.section("first"):
                time.pass_(0.1)
                raise ValueError
        except ValueError:
            with timed.perf.section("second"):
                time.pass_(0.2)
        return "x"

    timed.get("/it")
    times = {name: part["ms"] for name, part in timed.parts("it").items()}
    assert times == {"section:second": 200, "section:first": 100}


def test_a_section_that_repeats_adds_up_and_counts(timed: Any, time: Any) -> None:
    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        for _ in range(5):
            with timed.perf.section("row"):
                time.pass_(0.1)
        return "x"

    timed.get("/it")
    part = timed.parts("it")["section:row"]
    assert (part["ms"], part["count"]) == (500, 5)


def test_a_section_within_itself_is_not_counted_twice(timed: Any, time: Any) -> None:
    def explode(depth: int) -> None:
        with timed.perf.section("explode"):
            time.pass_(0.1)
            if depth:
                explode(depth - 1)

    timed.app.get("/it", endpoint="it")(lambda: explode(4) or "x")
    timed.get("/it")
    assert timed.parts("it")["section:explode"]["ms"] == 500


def test_sections_of_interleaved_generators_never_exceed_the_request(timed: Any, time: Any) -> None:
    def rows(name: str) -> Iterator[None]:
        with timed.perf.section(name):
            for _ in range(3):
                time.pass_(0.1)
                yield

    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        for _ in zip(rows("one"), rows("two"), rows("three"), strict=True):
            pass
        return "x"

    timed.get("/it")
    parts = timed.parts("it").values()
    assert sum(part["share"] for part in parts) <= 1
    assert sum(part["ms"] for part in parts) <= timed.row("it")["mean_ms"] == 900


def test_a_section_of_a_generator_that_outlives_its_request_counts_nothing_more(
    timed: Any, time: Any
) -> None:
    generators: list[Iterator[None]] = []

    def rows() -> Iterator[None]:
        with timed.perf.section("rows"):
            yield

    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        generators.append(rows())
        next(generators[0])
        time.pass_(0.1)
        return "x"

    timed.get("/it")
    before = timed.parts("it")
    time.pass_(5)
    list(generators[0])
    assert timed.parts("it") == before and before["section:rows"]["ms"] == 100


def test_a_section_that_is_never_closed_ends_with_its_request(timed: Any, time: Any) -> None:
    sections: list[Any] = []

    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        sections.append(timed.perf.section("open"))
        sections[0].__enter__()
        time.pass_(0.1)
        return "x"

    timed.get("/it")
    assert timed.parts("it")["section:open"]["ms"] == 100


def test_a_section_outside_a_request_does_nothing(quiet: Any) -> None:
    with quiet.perf.section("batch"):
        pass
    assert quiet.report()["endpoints"] == []


# -- profiled functions -----------------------------------------------------------------------------


def test_a_profiled_function_has_a_histogram_and_a_part(timed: Any, time: Any) -> None:
    @timed.perf.profile
    def explode() -> str:
        time.pass_(0.2)
        return "x"

    timed.app.get("/it", endpoint="it")(explode)
    timed.get("/it")
    (row,) = timed.report()["functions"]
    assert (row["count"], row["mean_ms"]) == (1, 200)
    assert [part["ms"] for part in timed.parts("it").values()] == [200]


def test_a_profiled_function_is_reported_with_its_location(timed: Any) -> None:
    @timed.perf.profile
    def explode() -> str:
        return "x"

    with timed.app.app_context():
        explode()
    (row,) = timed.report()["functions"]
    assert row["where"].partition(":")[0].endswith("test_sections.py")


def test_a_profiled_function_runs_without_any_application() -> None:

    assert KnitPerf().profile(lambda: 7)() == 7


def plain_function(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


async def coroutine_function(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


def generator_function(a: int, b: int = 2) -> Iterator[int]:
    """Add."""
    yield a + b


async def async_generator_function(a: int, b: int = 2) -> Any:
    """Add."""
    yield a + b


KINDS = (plain_function, coroutine_function, generator_function, async_generator_function)
KIND_CHECKS = (
    inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
)  # fmt: skip


@pytest.mark.parametrize("function", KINDS, ids=lambda f: f.__name__)
def test_a_profiled_function_keeps_its_kind(quiet: Any, function: Callable[..., Any]) -> None:
    profiled = quiet.perf.profile(function)
    assert [check(profiled) for check in KIND_CHECKS] == [check(function) for check in KIND_CHECKS]


@pytest.mark.parametrize("function", KINDS, ids=lambda f: f.__name__)
def test_a_profiled_function_keeps_name_signature_and_docstring(
    quiet: Any, function: Callable[..., Any]
) -> None:
    profiled = quiet.perf.profile(function)
    assert inspect.signature(profiled) == inspect.signature(function)
    assert (profiled.__name__, profiled.__doc__) == (function.__name__, "Add.")


def test_a_profiled_coroutine_is_timed_until_it_returns(timed: Any, time: Any) -> None:
    @timed.perf.profile
    async def knit() -> int:
        await asyncio.sleep(0)
        time.pass_(0.2)
        return 7

    with timed.app.app_context():
        assert asyncio.run(knit()) == 7
    assert timed.report()["functions"][0]["mean_ms"] == 200


def test_a_profiled_generator_passes_values_both_ways(timed: Any) -> None:
    @timed.perf.profile
    def echo() -> Any:
        got = yield 1
        try:
            got = yield got
        except KeyError:
            got = "caught"
        return got

    with timed.app.app_context():
        generator = echo()
        assert (next(generator), generator.send("sent")) == (1, "sent")
        with pytest.raises(StopIteration, match="caught"):
            generator.throw(KeyError)


def test_a_profiled_generator_is_not_charged_for_the_time_of_its_consumer(
    timed: Any, time: Any
) -> None:
    @timed.perf.profile
    def rows() -> Iterator[int]:
        for number in range(3):
            time.pass_(0.1)
            yield number

    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        for _ in rows():
            time.pass_(1)
        return "x"

    timed.get("/it")
    ((name, row),) = timed.functions().items()
    assert (row["count"], row["mean_ms"], timed.row("it")["mean_ms"]) == (1, 300, 3300)
    assert timed.parts("it")[f"section:{name}"]["ms"] == 300


def test_a_profiled_async_generator_is_not_charged_for_the_time_of_its_consumer(
    timed: Any, time: Any
) -> None:
    @timed.perf.profile
    async def rows() -> Any:
        for number in range(3):
            time.pass_(0.1)
            yield number

    async def read() -> None:
        async for _ in rows():
            time.pass_(1)

    with timed.app.app_context():
        asyncio.run(read())
    assert [(row["count"], row["mean_ms"]) for row in timed.functions().values()] == [(1, 300)]


def test_a_profiled_generator_that_is_not_exhausted_is_recorded_once(timed: Any, time: Any) -> None:
    @timed.perf.profile
    def rows() -> Iterator[int]:
        while True:
            time.pass_(0.1)
            yield 1

    with timed.app.app_context():
        generator = rows()
        next(generator), generator.close(), generator.close()
    assert [(row["count"], row["mean_ms"]) for row in timed.functions().values()] == [(1, 100)]


def test_a_profiled_async_generator_passes_values_both_ways(timed: Any) -> None:
    @timed.perf.profile
    async def echo() -> Any:
        got = yield 1
        try:
            yield got
        except KeyError:
            yield "caught"

    async def talk() -> list[Any]:
        generator = echo()
        items = [
            await generator.__anext__(), await generator.asend("sent"),
            await generator.athrow(KeyError),
        ]  # fmt: skip
        await generator.aclose()
        return items

    with timed.app.app_context():
        assert asyncio.run(talk()) == [1, "sent", "caught"]


def test_closing_a_profiled_async_generator_closes_the_wrapped_one_at_once(timed: Any) -> None:
    closed: list[bool] = []

    @timed.perf.profile
    async def rows() -> Any:
        try:
            yield 1
        finally:
            closed.append(True)

    async def leave() -> list[bool]:
        generator = rows()
        await generator.__anext__()
        await generator.aclose()
        return list(closed)

    with timed.app.app_context():
        assert asyncio.run(leave()) == [True]


def test_a_profiled_function_that_fails_is_counted_and_fails(timed: Any) -> None:
    profiled = timed.perf.profile(fail)
    with timed.app.app_context(), pytest.raises(ValueError, match="no yarn"):
        profiled()
    assert timed.report()["functions"][0]["count"] == 1


def test_profile_endpoint_takes_a_name(timed: Any) -> None:
    profiled = timed.perf.profiler.profile_endpoint("explode bom")(plain_function)
    with timed.app.app_context():
        profiled(1)
    assert set(timed.functions()) == {"explode bom"}


# -- services ---------------------------------------------------------------------------------------


class Base:
    def inherited(self) -> str:
        return "inherited"


class Service(Base):
    limit = 3

    def __init__(self) -> None:
        self.read = 0

    def plan(self) -> str:
        return "planned"

    async def plan_later(self) -> str:
        return "later"

    def rows(self) -> Iterator[int]:
        yield 1

    @property
    def stock(self) -> int:
        self.read += 1
        return 4

    @staticmethod
    def parse(text: str) -> int:
        return int(text)

    @classmethod
    def make(cls) -> Service:
        return cls()

    def _private(self) -> str:
        return "private"

    def __len__(self) -> int:
        return 9


def use(service: Any) -> list[Any]:
    return [
        service.plan(), asyncio.run(service.plan_later()), list(service.rows()), service.stock,
        service.parse("5"), type(service.make()).__name__, service._private(), len(service),
        service.inherited(), service.limit,
    ]  # fmt: skip


def fresh_class() -> type[Service]:
    """Return a copy of the class, since instrumenting changes it."""
    return type("Service", (Base,), dict(vars(Service)))


def test_an_instrumented_service_behaves_like_the_original(timed: Any) -> None:
    service = timed.perf.instrument(Service())
    with timed.app.app_context():
        assert use(service) == use(Service())


def test_an_instrumented_class_behaves_like_the_original(timed: Any) -> None:
    instrumented = timed.perf.instrument(fresh_class())
    with timed.app.app_context():
        assert use(instrumented()) == use(Service())


@pytest.mark.parametrize("make", [Service, fresh_class], ids=["object", "class"])
def test_the_public_methods_of_a_service_are_timed_and_nothing_else(
    timed: Any, make: Callable[[], Any]
) -> None:
    service = timed.perf.instrument(make())
    with timed.app.app_context():
        use(service() if inspect.isclass(service) else service)
    names = {f"Service.{name}" for name in ("plan", "plan_later", "rows", "inherited")}
    assert set(timed.functions()) == names


def test_instrumenting_twice_counts_once(timed: Any) -> None:
    service = timed.perf.instrument(timed.perf.instrument(Service()))
    with timed.app.app_context():
        service.plan()
    assert timed.functions()["Service.plan"]["count"] == 1


def test_instrumenting_a_class_and_its_object_counts_once(timed: Any) -> None:
    service = timed.perf.instrument(timed.perf.instrument(fresh_class())())
    with timed.app.app_context():
        service.plan()
    assert timed.functions()["Service.plan"]["count"] == 1


def test_instrumenting_an_object_leaves_its_class_alone(timed: Any) -> None:
    timed.perf.instrument(Service())
    with timed.app.app_context():
        Service().plan()
    assert timed.functions() == {}


def test_instrumenting_reads_no_property(quiet: Any) -> None:
    assert quiet.perf.instrument(Service()).read == 0


def test_instrumenting_an_object_without_settable_attributes_is_an_error(quiet: Any) -> None:

    class Rigid:
        __slots__ = ()

        def plan(self) -> str:
            return "planned"

    with pytest.raises(KnitPerfError, match="Rigid"):
        quiet.perf.instrument(Rigid())
