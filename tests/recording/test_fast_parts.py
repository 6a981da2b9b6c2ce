"""Parts and streamed bodies on the fast path: one contract, tested in Python and in C."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.recording import fastpath
from tests.recording.harness import CURRENT, Body, Harness, in_c, in_pure_python

STREAMED = 14


@pytest.fixture(params=[in_pure_python, in_c], ids=["python", "c"])
def harness(request: pytest.FixtureRequest) -> Harness:
    harness = Harness(request.param())
    harness.series.parts = {"section:a": (21, 0, 0), "section:b": (22, 23, 24)}
    harness.series.streamed = STREAMED
    return harness


def serve(harness: Harness, parts: Any, **fields: Any) -> None:
    """Serve a request that has parts, and further fields of its span."""

    def app(environ: Any, start: Any) -> Any:
        start.parts = parts
        for name, value in fields.items():
            setattr(start, name, value)
        return harness.app(environ, start)

    harness.middleware.app = app
    harness.get()


# -- parts -----------------------------------------------------------------------------------------


def test_the_parts_of_a_request_are_in_its_group(harness: Harness) -> None:
    serve(harness, {"section:a": [1, 70, 0], "section:b": [1, 0, 0]})
    assert harness.written() == [(7, 500.0), (21, 70.0), (22, 0.0), (9, 4.0)]


def test_of_a_part_that_ran_several_times_the_first_carries_the_sum(harness: Harness) -> None:
    serve(harness, {"section:a": [4, 70, 0]})
    assert harness.weights()[1:3] == [(21, 1, 70.0), (21, 3, 0.0)]


def test_a_sampled_request_has_the_cpu_time_of_its_parts_which_is_never_above_their_wall_time(
    harness: Harness,
) -> None:
    harness.sample()
    serve(harness, {"section:b": [1, 70, 60]})
    serve(harness, {"section:b": [1, 70, 80]})
    assert [row for row in harness.weights() if row[0] in (22, 23, 24)] == [
        (22, 1, 70.0), (23, 1, 70.0), (24, 1, 60.0), (22, 1, 70.0), (23, 1, 70.0), (24, 1, 70.0),
    ]  # fmt: skip


def test_on_a_watched_path_parts_have_the_weight_of_a_fast_request(harness: Harness) -> None:
    harness.sample()
    serve(harness, {"section:b": [1, 70, 60]}, weight=-8)
    serve(harness, {"section:b": [1, 70, 60]}, weight=0)
    assert [row for row in harness.weights() if row[0] in (23, 24)] == [
        (23, 8, 70.0), (24, 8, 60.0),
    ]  # fmt: skip


def test_a_part_without_a_sample_so_far_has_its_first_on_the_slow_path(harness: Harness) -> None:
    harness.sample()
    serve(harness, {"section:a": [1, 70, 60]})
    assert harness.log == [] and harness.calls[-1] == "finish_slow"


@pytest.mark.parametrize("known", [{"section:b": (22, 0, 0)}, {}, None])
def test_a_part_unknown_to_the_series_takes_the_slow_path(harness: Harness, known: Any) -> None:
    harness.series.parts = known
    serve(harness, {"section:b": [1, 70, 0], "section:a": [1, 70, 0]})
    assert harness.log == [] and harness.calls[-1] == "finish_slow" and not harness.span.ended


def test_a_part_that_is_open_takes_the_slow_path(harness: Harness) -> None:
    serve(harness, {}, stack=[object()])
    assert harness.log == [] and harness.calls[-1] == "finish_slow"
    serve(harness, {}, stack=[])
    assert len(harness.log) == 1


def test_more_parts_than_a_group_holds_take_the_slow_path(harness: Harness) -> None:
    names = [f"section:{number}" for number in range(fastpath.MAX_PARTS + 1)]
    harness.series.parts = dict.fromkeys(names, (30, 31, 32))
    harness.sample()
    harness.series.gc = 10
    harness.pauses.total = 0
    serve(harness, {name: [2, 70, 60] for name in names})
    assert harness.log == []
    hook = [("section:0", 1, 2, None)]
    serve(harness, {name: [2, 70, 60] for name in names[1:]}, hooks=hook, cpu_began=None)
    assert harness.log == []
    serve(harness, {name: [2, 70, 60] for name in names[1:]})
    serve(harness, {name: [2, 70, 60] for name in names[2:]}, hooks=hook, cpu_began=None)
    assert [len(group) // 16 for group in harness.log] == [
        5 + 4 * fastpath.MAX_PARTS, 2 + 1 + 2 * (fastpath.MAX_PARTS - 1),
    ]  # fmt: skip


def test_a_mark_between_hooks_notes_the_parts_that_ended_before_a_hook(harness: Harness) -> None:
    calls: list[str] = []

    class Mark(harness.module.HookMarkBase):  # type: ignore[misc]
        def start_hook(self, span: Any) -> None:
            calls.append(self.name)

    mark = Mark(harness.middleware.recorder, CURRENT, "hook:b")

    def app(environ: Any, start: Any) -> Any:
        mark()
        start.parts = {"section:a": [1, 70, 0]}
        mark()
        return harness.app(environ, start)

    harness.middleware.app = app
    harness.get()
    assert calls == ["hook:b"]


# -- collectors ------------------------------------------------------------------------------------


def test_what_collectors_record_precedes_the_group_and_has_its_parts(harness: Harness) -> None:
    harness.sample()
    harness.on_collect = lambda span: setattr(span, "parts", {"section:b": [2, 70, 0]})
    serve(harness, None, fast=fastpath.FAST_COLLECT, cpu_began=None)
    assert harness.calls[-1] == "collect"
    assert harness.written() == [(7, 500.0), (22, 70.0), (22, 0.0), (9, 4.0)]


@pytest.mark.parametrize("bound", ["detailed_at", "detailed_above"])
def test_a_request_whose_details_may_be_kept_has_its_collectors_called_on_the_slow_path(
    harness: Harness, bound: str
) -> None:
    harness.sample()
    setattr(harness.series, bound, 0)
    serve(harness, None, fast=fastpath.FAST_COLLECT, cpu_began=None)
    assert harness.log == [] and harness.calls[-1] == "finish_slow"
    assert "collect" not in harness.calls


def test_a_failing_collector_is_a_fast_path_error(harness: Harness) -> None:
    def fail(span: Any) -> None:
        raise ZeroDivisionError

    harness.sample()
    harness.on_collect = fail
    serve(harness, None, fast=fastpath.FAST_COLLECT, cpu_began=None)
    assert harness.calls[-2:] == [("on_fastpath_error", ZeroDivisionError), "finish_slow"]


def test_the_collectors_of_a_stream_are_called_at_its_end(harness: Harness) -> None:
    harness.sample()
    span = harness.stream()
    span.fast, span.cpu_began = fastpath.FAST_COLLECT, None
    assert harness.middleware.record_streamed(span, 400)
    assert harness.calls[-1] == "collect" and len(harness.log) == 1


# -- streamed bodies -------------------------------------------------------------------------------


def test_the_end_of_a_streamed_body_writes_the_group_of_its_request(harness: Harness) -> None:
    span = harness.stream({"section:a": [1, 70, 0]})
    assert harness.log == [] and not span.ended
    assert harness.middleware.record_streamed(span, 400) is True
    assert harness.written() == [(7, 1_000.0), (21, 70.0), (9, 400.0), (STREAMED, 400.0)]
    assert span.ended and harness.spans == {}


def test_an_empty_stream_has_no_bytes(harness: Harness) -> None:
    assert harness.middleware.record_streamed(harness.stream(), 0)
    assert harness.written() == [(7, 1_000.0)]


def test_a_stream_is_recorded_once(harness: Harness) -> None:
    span = harness.stream()
    assert harness.middleware.record_streamed(span, 400)
    assert harness.middleware.record_streamed(span, 400) is False
    assert len(harness.log) == 1


@pytest.mark.parametrize(
    ("owner", "field", "value"),
    [
        ("span", "fast", fastpath.FAST_OFF), ("series", "streamed", 0), ("series", "bodiless", True),
        ("series", "solo", 0), ("profile", "request_series", {}),
    ],
)  # fmt: skip
def test_another_stream_takes_the_slow_path(
    harness: Harness, owner: str, field: str, value: Any
) -> None:
    span = harness.stream()
    setattr(getattr(harness, owner), field, value)
    assert harness.middleware.record_streamed(span, 400) is False
    assert harness.log == [] and not span.ended and span in harness.spans


def test_a_stream_that_was_set_apart_takes_the_slow_path(harness: Harness) -> None:
    span = harness.stream()
    harness.spans.clear()
    assert harness.middleware.record_streamed(span, 400) is False
    assert not span.ended


def test_a_stream_whose_clock_fails_is_a_fast_path_error(harness: Harness) -> None:
    span = harness.stream()
    harness.now = iter(())  # type: ignore[assignment]
    assert harness.middleware.record_streamed(span, 400) is False
    assert harness.calls[-1] == ("on_fastpath_error", StopIteration) and not span.ended


def test_our_own_cost_of_a_stream_has_the_stretch_at_its_end(harness: Harness) -> None:
    span = harness.stream()
    span.timed, span.cost = 3, 900  # two stretches before
    fastpath.measure_cost(span, -1)
    harness.middleware.record_streamed(span, 400)
    for _ in range(2):  # as a body that is closed twice
        harness.middleware.end_cost(span)
    costs = [call for call in harness.calls if call[0] == "record_cost"]
    assert costs == [("record_cost", 900 + 200 - 3 * 200)]


def test_of_a_stream_no_cost_is_recorded_before_its_end(harness: Harness) -> None:
    harness.profile.prepare_at = 1_000
    for _ in range(2 * fastpath.COST_EVERY):
        harness.stream()
    assert not any(call[0] == "record_cost" for call in harness.calls)
    assert len([span for span in harness.spans if span.timed == 4]) == 2


def test_the_cost_of_a_request_that_is_not_timed_is_not_recorded(harness: Harness) -> None:
    harness.profile.requests_started = 1
    span = harness.stream()
    span.timed = 0
    harness.middleware.end_cost(span)
    assert not any(call[0] == "record_cost" for call in harness.calls)


def test_c_refuses_what_is_no_span_and_a_container_of_another_type() -> None:
    harness = Harness(in_c())
    for method, arguments in (("record_streamed", (5, 1)), ("end_cost", (5,))):
        with pytest.raises(TypeError, match="span"):
            getattr(harness.middleware, method)(*arguments)
    harness.series.parts = {"section:a": [21, 0, 0]}
    serve(harness, {"section:a": [1, 70, 0]})
    assert harness.calls[-2:] == [("on_fastpath_error", TypeError), "finish_slow"]
    harness.series.parts = {"section:a": (21, 0, 0)}
    for parts in ({"section:a": (1, 70, 0)}, {"section:a": [1, 70]}, {5: [1, 70, 0]}, [1]):
        serve(harness, parts)
        assert harness.log == [] and harness.calls[-1] == "finish_slow"
    serve(harness, {"section:a": [1, "x", 0]})
    assert harness.calls[-2:] == [("on_fastpath_error", TypeError), "finish_slow"]
    harness.body = Body(b"yarn")
    serve(harness, None)
    assert len(harness.log) == 1
