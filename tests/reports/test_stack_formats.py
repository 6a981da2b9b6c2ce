"""Sampled stacks in the file formats of other tools."""

from __future__ import annotations

import json

from flask_knitperf.reports.stack_formats import collapsed, speedscope
from tests.analysis.test_hot_lines import HOT, PANDAS, VIEW, stacks


def test_stacks_are_exported_collapsed() -> None:
    text = collapsed(stacks(([VIEW, HOT, PANDAS], 3, 1), ([VIEW], 0, 2), ([], 1, 0)))
    assert text.splitlines() == [
        "mill/views.py:5 2000",
        "mill/views.py:5;mill/explode.py:41;DataFrame.iterrows_(pandas/frame.py) 4000",
    ]


def test_stacks_are_exported_for_speedscope() -> None:
    document = speedscope(stacks(([VIEW, HOT], 3, 1), ([VIEW], 0, 2)), "GET forecast")
    [profile] = document["profiles"]
    names = [frame["name"] for frame in document["shared"]["frames"]]
    assert [[names[i] for i in sample] for sample in profile["samples"]] == [
        ["forecast"], ["forecast", "explode"],
    ]  # fmt: skip
    assert (profile["weights"], profile["endValue"]) == ([2000, 4000], 6000)
    json.dumps(document)
