"""The log format: groups, notes and definitions."""

from __future__ import annotations

from flask_knitperf.metrics.log_format import pack, parse


def test_an_incomplete_note_or_definition_ends_the_log() -> None:
    from flask_knitperf.metrics.log_format import DEFINE, NOTE, pack_json

    note = pack_json(NOTE, 1, {"kind": "k"})
    group = pack([(1, 1, 5.0)])
    assert len(parse(note + group).notes) == 1
    incomplete = note[:20] + bytes(len(note) - 20)
    assert parse(incomplete + group).incomplete
    assert not len(parse(incomplete + group).series)
    assert parse(pack_json(DEFINE, 3, ["x"])).definitions == {3: ["x"]}
    assert parse(group + note[:16]).end == 16
