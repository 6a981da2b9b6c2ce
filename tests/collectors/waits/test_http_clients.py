"""Calls by httpx and aiohttp are parts with the host alone, in threads and in coroutines."""

from __future__ import annotations

import asyncio
import types
from typing import Any
from urllib.request import ProxyHandler, build_opener

import aiohttp
import httpx
import pytest

from flask_knitperf.collectors.waits import httpx_hook
from flask_knitperf.collectors.waits.hooks import WaitHooks
from flask_knitperf.collectors.waits.replacements import Replacements
from flask_knitperf.metrics.catalogue import WaitThread

from .conftest import BODY_S, HEAD_S, waits
from .test_async_waits import within

HOST = "http:localhost"


# -- httpx -----------------------------------------------------------------------------------------


def test_each_call_of_httpx_counts_once_with_the_host_alone(
    serve: Any, quiet: Any, service: str
) -> None:
    def view() -> None:
        with httpx.Client() as client:
            for _ in range(3):
                assert client.get(service + "&slow-body").text == "1.07"

    parts = serve(view)
    assert parts[HOST]["count"] == 3 and parts[HOST]["ms"] >= 3 * (HEAD_S + BODY_S) * 900
    assert within(quiet, parts)
    assert not any("secret" in name or "rates" in name or ":8" in name for name in parts)
    sites = {wait.where for wait in waits(quiet) if wait.part == HOST}
    assert len(sites) == 1 and sites.pop().startswith("waits/test_http_clients.py:")


def test_a_redirect_and_a_retry_are_calls(serve: Any, service: str) -> None:
    class Retrying(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            super().handle_request(request).close()
            return super().handle_request(request)

    def view() -> None:
        with httpx.Client(follow_redirects=True) as client:
            assert client.get(service.replace("/rates", "/moved")).text == "1.07"
        with httpx.Client(transport=Retrying()) as client:
            assert client.get(service).text == "1.07"

    assert serve(view)[HOST]["count"] == 4


def test_the_time_between_the_chunks_of_a_stream_is_not_the_call_s(
    serve: Any, quiet: Any, service: str
) -> None:
    def view() -> None:
        with httpx.stream("GET", service + "&slow-body") as answer:
            chunks = answer.iter_bytes()
            asyncio.run(asyncio.sleep(BODY_S * 2))
            assert b"".join(chunks) == b"1.07"

    parts = serve(view)
    assert parts[HOST]["count"] == parts["sleep"]["count"] == 1
    assert within(quiet, parts)


def test_a_stream_that_is_left_early_is_closed(serve: Any, service: str) -> None:
    def view() -> None:
        with httpx.Client() as client:
            for _ in range(2):
                with client.stream("GET", service) as answer:
                    assert next(answer.iter_raw(1)) == b"1"
            assert answer.is_closed

    assert serve(view)[HOST]["count"] == 2


def test_transports_that_send_nothing_are_not_calls(serve: Any, quiet: Any) -> None:
    inner = httpx.MockTransport(lambda _: httpx.Response(200, text="mocked"))

    def application(_: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [b"inside"]

    def view() -> None:
        with httpx.Client(transport=inner) as client:
            assert client.get("http://rates.example/").text == "mocked"
        with httpx.Client(transport=httpx.WSGITransport(application)) as client:
            assert client.get("http://rates.example/").text == "inside"

    assert not any(name.startswith("http") for name in serve(view))


def test_an_error_of_httpx_is_the_same_and_is_a_call(serve: Any) -> None:
    def view() -> None:
        with httpx.Client(timeout=0.05) as client, pytest.raises(httpx.ConnectError):
            client.get("http://127.0.0.1:9/")

    assert serve(view)["http:127.0.0.1"]["count"] == 1


def test_calls_of_httpx_side_by_side_take_the_time_in_which_one_ran(
    serve_async: Any, quiet: Any, service: str
) -> None:
    async def view() -> None:
        async with httpx.AsyncClient() as client:
            answers = await asyncio.gather(*(client.get(service + "&slow-body") for _ in range(3)))
        assert [answer.text for answer in answers] == ["1.07"] * 3

    parts = serve_async(view)
    assert parts[HOST]["count"] == 3 and within(quiet, parts)
    assert parts[HOST]["ms"] >= (HEAD_S + BODY_S) * 900
    rows = [wait for wait in waits(quiet) if wait.part == HOST and wait.time.total]
    assert {wait.thread for wait in rows} == {WaitThread.TASK}
    assert all(wait.where.startswith("waits/test_http_clients.py:") for wait in rows)


def test_calls_of_httpx_one_after_another_are_counted_as_such(
    serve_async: Any, quiet: Any, service: str
) -> None:
    async def view() -> None:
        async with httpx.AsyncClient() as client:
            for _ in range(3):
                async with client.stream("GET", service) as answer:
                    assert [chunk async for chunk in answer.aiter_bytes()] == [b"1.07"]

    parts = serve_async(view)
    assert parts[HOST]["count"] == 3 and parts[HOST]["ms"] >= 3 * HEAD_S * 900
    assert {wait.thread for wait in waits(quiet) if wait.part == HOST} == {WaitThread.REQUEST}


# -- aiohttp ---------------------------------------------------------------------------------------


def test_calls_of_aiohttp_count_once_with_the_host_alone(
    serve_async: Any, quiet: Any, service: str
) -> None:
    async def view() -> None:
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                async with session.get(service + "&slow-body") as answer:
                    assert await answer.text() == "1.07"

    parts = serve_async(view)
    assert parts[HOST]["count"] == 3 and parts[HOST]["ms"] >= 3 * (HEAD_S + BODY_S) * 900
    assert within(quiet, parts)
    assert not any("secret" in name or "rates" in name or ":8" in name for name in parts)
    assert {wait.thread for wait in waits(quiet) if wait.part == HOST} == {WaitThread.REQUEST}


def test_calls_of_aiohttp_side_by_side_take_the_time_in_which_one_ran(
    serve_async: Any, quiet: Any, service: str
) -> None:
    async def fetch(session: aiohttp.ClientSession) -> str:
        async with session.get(service) as answer:
            return await answer.text()

    async def view() -> None:
        async with aiohttp.ClientSession() as session:
            assert await asyncio.gather(*(fetch(session) for _ in range(4))) == ["1.07"] * 4

    parts = serve_async(view)
    assert parts[HOST]["count"] == 4 and within(quiet, parts)
    assert HEAD_S * 900 <= parts[HOST]["ms"] < HEAD_S * 3000
    assert {wait.thread for wait in waits(quiet) if wait.part == HOST} == {WaitThread.TASK}


def test_a_redirect_and_a_call_that_fails_are_calls_of_aiohttp(
    serve_async: Any, service: str
) -> None:
    async def view() -> None:
        async with aiohttp.ClientSession() as session:
            async with session.get(service.replace("/rates", "/moved")) as answer:
                assert await answer.text() == "1.07"
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("http://127.0.0.1:9/?key=secret")

    parts = serve_async(view)
    assert parts[HOST]["count"] == 2 and parts["http:127.0.0.1"]["count"] == 1


def test_the_originals_of_both_are_back_once_the_application_is_closed(quiet: Any) -> None:
    owners: list[tuple[Any, str]] = [
        (httpx.HTTPTransport, "handle_request"), (httpx.AsyncHTTPTransport, "handle_async_request"),
        (aiohttp.ClientSession, "_request"), (aiohttp.ClientResponse, "start"),
        (aiohttp.StreamReader, "_wait"),
    ]  # fmt: skip
    before = [vars(owner)[name] for owner, name in owners]
    quiet.get("/")
    assert not any(
        vars(owner)[name] is old for (owner, name), old in zip(owners, before, strict=True)
    )
    quiet.session.close()
    assert [vars(owner)[name] for owner, name in owners] == before


# -- proxies ---------------------------------------------------------------------------------------


def test_a_call_through_a_proxy_has_the_name_of_its_service(serve: Any, service: str) -> None:
    proxy = service.partition("/rates")[0]
    opener = build_opener(ProxyHandler({"http": proxy}))

    def view() -> None:
        assert opener.open("http://rates.example/today?key=secret").read() == b"1.07"
        with httpx.Client(proxy=proxy) as client:
            assert client.get("http://tax.example/today").text == "1.07"

    parts = serve(view)
    assert parts["http:rates.example"]["count"] == parts["http:tax.example"]["count"] == 1
    assert HOST not in parts


def test_a_version_without_what_is_hooked_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hook = Replacements(lambda: httpx_hook.targets(types.SimpleNamespace()))
    hooks = WaitHooks(hook)
    hooks.acquire(), hooks.install_imported()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert not hooks.installed
    hooks.release()
