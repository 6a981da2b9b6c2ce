"""Output of commands on streams that cannot encode every character."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.cli import console

TEXT = "400 µs → 2.62× – mill…"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", TEXT),
        ("cp1252", "400 µs -> 2.62× – mill…"),
        ("ascii", "400 us -> 2.62x - mill..."),
    ],
)
def test_a_character_that_a_stream_lacks_is_replaced_by_a_similar_one(
    encoding: str, expected: str
) -> None:
    assert console.encodable(TEXT, encoding) == expected


@given(text=st.text(st.characters(codec="utf-8")), encoding=st.sampled_from(["ascii", "cp437"]))
def test_every_text_can_be_printed(text: str, encoding: str) -> None:
    console.encodable(text, encoding).encode(encoding)


@pytest.mark.parametrize("charset", ["utf-8", "ascii"])
def test_json_keeps_every_character_in_any_encoding(charset: str) -> None:
    document = {"text": TEXT}
    runner = CliRunner(charset=charset)
    with runner.isolation() as streams, click.Context(click.Command("report")):
        console.print_document(document, True, "")
        printed = streams[0].getvalue().decode(charset)
    assert json.loads(printed) == document
