"""The oracle of the benchmark of cached queries finds each kind of wrong answer."""

from __future__ import annotations

import math

import pytest

from benchmarks.harness.query_oracle import Answer, Change, judge

CHANGES = [
    Change(0, 1, "a", 100, 110),
    Change(0, 2, "b", 200, 210),
    Change(1, 1, "c", 300, math.inf),  # its process was killed in the middle of the commit
]


def read(row: int, value: int, token: str, at: int, until: int = 0) -> Answer:
    return Answer("core", (row,), (value,), (token,), at, until or at + 5)


@pytest.mark.parametrize(
    "answer",
    [
        read(0, 0, "", 50), read(0, 1, "a", 150), read(0, 2, "b", 211), read(0, 1, "a", 205),
        read(0, 2, "b", 195, 201), read(1, 1, "c", 900), read(1, 0, "", 900), read(2, 0, "", 900),
        Answer("sum", (0, 1), (2,), (), 250, 260), Answer("sum", (0, 1), (3,), (), 400, 401),
    ],
)  # fmt: skip
def test_a_right_answer_is_not_accused(answer: Answer) -> None:
    verdict = judge(CHANGES, [answer])
    assert not verdict.stale and not verdict.rolled_back and not verdict.early


def test_an_answer_older_than_a_commit_is_stale() -> None:
    verdict = judge(CHANGES, [read(0, 1, "a", 220)])
    assert verdict.stale == {"core": 1} and verdict.longest_ns == 10


def test_a_sum_that_lacks_a_commit_is_stale() -> None:
    assert judge(CHANGES, [Answer("sum", (0, 1), (1,), (), 220, 230)]).stale == {"sum": 1}


def test_a_token_that_was_never_committed_is_of_rolled_back_data() -> None:
    assert judge(CHANGES, [read(0, 3, "x", 400)]).rolled_back == {"core": 1}


def test_a_sum_with_more_than_was_committed_is_of_rolled_back_data() -> None:
    assert judge(CHANGES, [Answer("sum", (0, 1), (9,), (), 400, 401)]).rolled_back == {"sum": 1}


def test_an_answer_before_the_commit_was_requested_is_too_early() -> None:
    assert judge(CHANGES, [read(0, 2, "b", 120, 130)]).early == {"core": 1}
