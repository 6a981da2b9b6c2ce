"""Tables: definitions that are folded."""

from __future__ import annotations

from flask_knitperf.metrics.instruments import Key
from flask_knitperf.metrics.log_format import pack
from tests.recording.recorders import REQUESTS


def test_a_definition_that_is_read_twice_counts_once() -> None:
    from flask_knitperf.metrics.log_format import DEFINE, pack_json
    from flask_knitperf.metrics.table import Table, define, fold

    text = pack_json(DEFINE, 1, define(Key("request", ("a",)), REQUESTS))
    table = Table("w")
    fold(table, text, closed=False)
    fold(table, text + text + pack([(1, 1, 5.0)]), closed=False)
    assert len(table.descriptors) == 1
