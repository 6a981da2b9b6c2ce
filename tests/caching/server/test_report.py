"""The use of the server in statistics, report, page and terminal, and the settings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.harness.valkey import Valkey
from flask_knitperf.core.errors import ConfigurationError
from flask_knitperf.render.html_cache import cache as page_of
from flask_knitperf.render.terminal_cache import cache as text_of

from ...waiting import wait_for
from . import mill_code

MakeMill = Callable[..., Any]


def used(mill: Any, style: str = "x") -> Any:
    """Return the document of the cache after two calls for one value."""
    call = mill.perf.cache.cached(mill_code.bom)
    assert mill.get("/").code == 200  # it records from now on
    with mill.app.app_context():
        assert call(style) == call(style)
    mill.session.cache_publisher.publish()
    return mill.session.documents.cache("run")


def test_round_trips_are_in_the_report_by_outcome(make_mill: MakeMill) -> None:
    first, second = used(make_mill("a"))["server"], used(make_mill("b"))["server"]
    assert (first["misses"], first["stored"], first["hits"]) == (1, 1, 0)
    assert (second["misses"], second["stored"], second["hits"]) == (0, 0, 1)
    assert first["waited_s"] > 0


def test_page_and_terminal_show_the_server(make_mill: MakeMill) -> None:
    document = used(make_mill("a"))
    assert ("Stored", "1") in page_of(document)["server"]
    text = text_of(document)
    assert "CACHE SERVER" in text and "Stored" in text


def test_an_application_without_a_server_shows_none(mill: Any) -> None:
    document = used(mill)
    assert document["server"] is None and page_of(document)["server"] == []
    assert "CACHE SERVER" not in text_of(document)
    assert mill.perf.cache.get_cache_statistics()["server"] is None


@pytest.mark.slow
def test_a_lost_server_is_in_the_report_until_it_is_back(
    make_mill: MakeMill, valkey: Valkey
) -> None:
    mill = make_mill("a", valkey.url)
    used(mill, "x")
    valkey.kill()
    used(mill, "y")
    assert "the cache server is not used since" in mill.degraded()
    assert valkey.url not in mill.degraded()
    valkey.start()
    wait_for(lambda: not mill.session.cache_server.lost)
    used(mill, "z")
    wait_for(lambda: "cache server" not in mill.degraded())  # with the next heartbeat


def test_counts_of_a_process_are_published_once(make_mill: MakeMill) -> None:
    mill = make_mill("a")
    used(mill)
    mill.session.cache_publisher.publish()
    assert mill.session.documents.cache("run")["server"]["stored"] == 1


@pytest.mark.parametrize("url", ["http://mill", "redis:mill", "", 5, "redis://:knit-secret@m ill"])
def test_an_address_that_is_none_is_refused_without_being_shown(
    make_mill: MakeMill, url: Any
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_mill("a", KNITPERF_CACHE_URL=url)
    assert "knit-secret" not in str(caught.value)


def test_a_misspelt_option_does_not_show_its_address(make_mill: MakeMill) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_mill("a", KNITPERF_CACHE_ADRESS="redis://:knit-secret@mill")
    assert "knit-secret" not in str(caught.value)


def test_a_missing_client_is_an_error_that_names_the_extra(
    make_mill: MakeMill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"flask-knitperf\[redis\]"):
        make_mill("a")


def test_nothing_of_it_is_imported_or_started_without_the_option(mill: Any) -> None:
    used(mill)
    assert mill.session.cache_server is None and mill.session.recorder.versions.other_hosts is None


@pytest.mark.parametrize("secret", ["short", b"bytes of enough length", 5])
def test_a_weak_secret_is_refused_without_being_shown(make_mill: MakeMill, secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="16 or more") as caught:
        make_mill("a", KNITPERF_CACHE_SECRET=secret)
    assert "hidden" in str(caught.value)
