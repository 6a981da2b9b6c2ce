"""Waits in words: what a request waits for, how often, where, and the repair that fits."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.analysis.advice import explain
from flask_knitperf.analysis.causes import why
from flask_knitperf.analysis.endpoints import endpoints
from flask_knitperf.analysis.verdicts import verdicts

from .tables import LIMITS, Mill


def waiting(
    *waits: tuple[str, float, int], thread: str = "request", where: str = "shop.py:117"
) -> Mill:
    """Return a mill with 20 requests of a second, whose waits are part, ms per request and calls."""
    mill = Mill().requests("a", [1000] * 20).sampled("a", wall=1000, cpu=50)
    for part, ms, calls in waits:
        mill.counter("part", "a", "GET", part, ms=ms * 20, count=calls * 20)
        mill.counter("part_wall", "a", "GET", part, ms=ms)
        mill.counter("part_cpu", "a", "GET", part, ms=0)
        mill.counter("wait", "a", "GET", part, where, thread, ms=ms * 20, count=calls * 20)
    return mill


def explained(mill: Mill) -> tuple[Any, str]:
    """Return the first cause of the first verdict, and its advice."""
    verdict = verdicts(endpoints(mill.readings, LIMITS), LIMITS, ())[0]
    causes, advice, *_ = explain(verdict, ())
    return causes[0], advice


def saved(mill: Mill) -> float:
    """Return the share of its time that the advice of the first verdict saves."""
    verdict = verdicts(endpoints(mill.readings, LIMITS), LIMITS, ())[0]
    avoidable = explain(verdict, ()).avoidable
    return 0.0 if avoidable is None else round(avoidable.share, 4)


@pytest.mark.parametrize(
    ("part", "calls", "detail", "advice"),
    [
        ("http:rates.example", 1, "waiting for rates.example", "Cache the answers of rates.example"),
        ("http:rates.example", 3, "waiting for rates.example, 3 calls one after another",
         "Run the 3 calls to rates.example side by side, or cache the answers."),
        ("connect:redis.mill", 2, "connecting to redis.mill, 2 connections one after another",
         "Keep connections to redis.mill open"),
        ("dns:rates.example", 1, "looking up the address of rates.example",
         "Look it up less often: keep connections to rates.example open"),
        ("subprocess:convert", 1, "waiting for the program convert",
         "Run convert outside of the request"),
        ("sleep", 2, "sleeping, 2 times", "Remove the sleep"),
        ("sleep:urllib3", 1, "sleeping in urllib3", "Find out why urllib3 sleeps"),
        ("lock:queue", 2, "waiting for a queue, 2 times", "Make the other end of the queue faster"),
        ("lock:event", 1, "waiting for an event", "Shorten the work of the thread"),
        ("lock:semaphore", 1, "waiting for a semaphore", "Hold the semaphore for less time"),
        ("lock:huey", 1, "waiting for another thread, in huey", "Shorten the work of the thread"),
        ("lock:<other>", 1, "waiting for another thread, in a library", "Shorten the work"),
        ("pool", 1, "waiting for a connection of the pool", "Return connections sooner"),
        ("pool:redis", 1, "waiting for a connection of the pool of redis", "Return connections"),
        ("threads", 1, "waiting for the work of a thread pool", "Give the pool more threads"),
        ("http:<other>", 1, "waiting for other hosts", "Cache the answers of other hosts"),
        ("subprocess:<other>", 1, "waiting for the program (one of many)", "Run that program outside"),
    ],
)  # fmt: skip
def test_a_wait_has_its_name_its_number_its_line_and_a_repair(
    part: str, calls: int, detail: str, advice: str
) -> None:
    cause, text = explained(waiting((part, 780, calls)))
    assert (cause.cause, cause.detail.replace("\u00a0", " ")) == ("waiting", detail)
    assert (cause.share, cause.where) == (0.78, "shop.py:117")
    assert text.replace("\u00a0", " ").startswith(advice)


def test_calls_to_several_services_are_counted_for_the_advice() -> None:
    _, advice = explained(waiting(("http:rates.example", 500, 1), ("http:tax.example", 300, 1)))
    assert advice.replace("\u00a0", " ").startswith(
        "Run its 2 calls to other services side by side"
    )


def test_calls_in_a_thread_pool_are_side_by_side_already() -> None:
    cause, advice = explained(waiting(("http:rates.example", 780, 4), thread="pool"))
    assert cause.detail.replace("\u00a0", " ").endswith("4 calls in a thread pool")
    assert advice.startswith("Cache the answers of rates.example")


def test_calls_side_by_side_save_all_but_the_longest() -> None:
    assert saved(waiting(("http:rates.example", 780, 3))) == 0.52
    assert saved(waiting(("http:rates.example", 500, 1), ("http:tax.example", 300, 1))) == 0.3


def test_any_other_repair_of_a_wait_saves_all_of_it() -> None:
    for part, calls in (("http:rates.example", 1), ("sleep", 4), ("subprocess:convert", 2)):
        assert saved(waiting((part, 780, calls))) == 0.78
    assert saved(waiting(("http:rates.example", 780, 4), thread="pool")) == 0.78


def test_calls_in_tasks_side_by_side_are_not_one_after_another() -> None:
    cause, advice = explained(waiting(("http:rates.example", 780, 3), thread="task"))
    assert cause.detail.replace("\u00a0", " ").endswith("3 calls side by side")
    assert advice.startswith("Cache the answers of rates.example")


def test_a_connection_that_is_opened_is_not_a_wait_for_the_pool() -> None:
    mill = Mill().requests("a", [1000] * 20).counter("part", "a", "GET", "pool", ms=16000)
    cause, advice = explained(mill)
    assert (cause.cause, cause.detail) == ("waiting", "opening a connection to the database")
    assert advice.startswith("Keep connections open")


def test_work_of_a_pool_that_computes_is_computing_and_the_rest_waiting() -> None:
    mill = Mill().requests("a", [1000] * 20).sampled("a", wall=1000, cpu=50)
    mill.counter("part", "a", "GET", "threads", ms=900 * 20, count=20)
    mill.counter("part_wall", "a", "GET", "threads", ms=900)
    mill.counter("part_cpu", "a", "GET", "threads", ms=810)
    (row,) = endpoints(mill.readings, LIMITS)
    assert [(cause.cause, cause.share) for cause in why(row)] == [
        ("own_cpu", 0.81), ("waiting", 0.09), ("own_cpu", 0.05), ("waiting", 0.05),
    ]  # fmt: skip
    assert why(row)[0].detail == "running Python code in a thread pool"


def test_named_waits_take_their_share_out_of_waiting_and_are_never_computing() -> None:
    mill = waiting(("http:rates.example", 600, 1), ("sleep", 200, 1))
    (row,) = endpoints(mill.readings, LIMITS)
    causes = {(cause.cause, cause.part): cause.share for cause in why(row)}
    assert causes == {
        ("waiting", "http:rates.example"): 0.6, ("waiting", "sleep"): 0.2,
        ("waiting", None): 0.15, ("own_cpu", None): 0.05,
    }  # fmt: skip


def test_a_wait_without_a_sampled_request_is_named_too() -> None:
    mill = Mill().requests("a", [1000] * 5).counter("part", "a", "GET", "http:x.example", ms=4000)
    (row,) = endpoints(mill.readings, LIMITS)
    assert [(cause.detail, cause.share) for cause in why(row)] == [
        ("waiting for x.example", 0.8), ("not measured any further", 0.2),
    ]  # fmt: skip


def test_the_line_that_waits_longest_is_named() -> None:
    mill = waiting(("sleep", 300, 1))
    mill.counter("wait", "a", "GET", "sleep", "shop.py:9", "request", ms=9000, count=20)
    (row,) = endpoints(mill.readings, LIMITS)
    assert row.parts[0].where == "shop.py:9" and row.waits[0].serial == 2
