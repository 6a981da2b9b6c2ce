"""The sign-in page, one-time links, and signing out."""

from __future__ import annotations

import shutil
import time as system_time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.errors import StateError
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.revocations import Revocations
from flask_knitperf.web.guard import Principal
from flask_knitperf.web.sign_in import LINK_LIFETIME_S

from .clients import (
    OTHER,
    TOKEN,
    cookies_of,
    csrf_of,
    decide,
    first_page,
    form,
    make_guard,
    new_code,
    session_of,
    sign_in,
)


def test_the_sign_in_page_has_a_field_for_the_token(closed: Any) -> None:
    response = closed.get("/perf/sign-in")
    assert response.code == 200 and b'type="password"' in response.body


def test_the_sign_in_page_of_a_link_needs_only_a_click(closed: Any) -> None:
    body = closed.get("/perf/sign-in?code=abc").body
    assert b'name="code" value="abc"' in body and b"password" not in body


def test_a_code_is_escaped_on_the_sign_in_page(closed: Any) -> None:
    body = closed.get("/perf/sign-in?code=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").body
    assert b"<script" not in body and b"&lt;script&gt;" in body


def test_the_token_signs_in(closed: Any) -> None:
    response = closed.send("POST", "/perf/sign-in", **form(token=TOKEN))
    assert (response.code, response.header("Location")) == (303, "./")


def test_a_signed_in_browser_sees_the_pages(closed: Any) -> None:
    cookie = session_of(closed.send("POST", "/perf/sign-in", **form(token=TOKEN)))
    assert closed.get("/perf/report", HTTP_COOKIE=cookie).code == 200


@pytest.mark.parametrize(
    "fields",
    [{"token": OTHER}, {"token": ""}, {"token": TOKEN[:-1]}, {"tokens": TOKEN}, {"code": TOKEN},
     {"code": "1.2.3"}, {"code": "9999999999.x.00"}, {"code": ""}, {}, {"token": "\x00"}],
)  # fmt: skip
def test_nothing_else_signs_in(closed: Any, fields: dict[str, str]) -> None:
    response = closed.send("POST", "/perf/sign-in", **form(**fields))
    assert response.code == 403 and response.header("Set-Cookie") is None


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "", "5"])
def test_a_form_of_a_wrong_or_huge_length_does_not_sign_in(closed: Any, length: str) -> None:
    environ = {**form(token=TOKEN), "CONTENT_LENGTH": length}
    assert closed.send("POST", "/perf/sign-in", **environ).code == 403


# -- the sign-in link ------------------------------------------------------------------------------


def test_a_link_signs_in(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    response = sign_in(guard, code=new_code(time.epoch))
    assert isinstance(decide(guard, HTTP_COOKIE=session_of(response)), Principal)


def test_a_link_signs_in_only_once(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    code = new_code(time.epoch)
    sign_in(guard, code=code)
    assert sign_in(guard, code=code).status.startswith("403")


def test_opening_a_link_does_not_use_it_up(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    code = new_code(time.epoch)
    for method in ("GET", "HEAD", "GET"):
        decide(guard, f"/perf/sign-in?code={code}", method)
    assert sign_in(guard, code=code).status.startswith("303")


@pytest.mark.parametrize(
    ("later", "status"), [(LINK_LIFETIME_S - 1, "303"), (LINK_LIFETIME_S, "403")]
)
def test_a_link_expires_after_five_minutes(time: Any, later: float, status: str) -> None:
    guard = make_guard(lambda: time.epoch)
    code = new_code(time.epoch)
    time.pass_(later)
    assert sign_in(guard, code=code).status.startswith(status)


def test_a_link_of_another_token_does_not_sign_in(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    assert sign_in(guard, code=new_code(time.epoch, OTHER)).status.startswith("403")


def test_a_link_works_once_for_all_workers_that_share_a_state_directory(
    make_closed: Callable[..., Any],
) -> None:
    one, two = make_closed(TESTING=False), make_closed(TESTING=False)
    one.get("/"), two.get("/")
    code = new_code(system_time.time(), mill=one)
    codes = [m.send("POST", "/perf/sign-in", **form(code=code)).code for m in (one, two, one)]
    assert codes == [303, 403, 403]


def test_a_link_works_before_the_first_request_of_a_worker(make_closed: Callable[..., Any]) -> None:
    mill = make_closed(TESTING=False)
    code = new_code(system_time.time(), mill=mill)
    assert mill.send("POST", "/perf/sign-in", **form(code=code)).code == 303


def test_a_link_whose_use_cannot_be_recorded_does_not_sign_in(time: Any, tmp_path: Path) -> None:
    guard = make_guard(lambda: time.epoch, folder=lambda: tmp_path / "gone")
    assert sign_in(guard, code=new_code(time.epoch)).status.startswith("403")


def test_a_session_of_a_clock_that_was_ahead_does_not_outlive_its_hours(time: Any) -> None:
    guard = make_guard(lambda: time.epoch)
    now, time.epoch = time.epoch, time.epoch + 86_400
    cookie, link = session_of(sign_in(guard)), new_code(time.epoch)
    assert decide(guard, HTTP_COOKIE=cookie) is not None
    time.epoch = now
    assert decide(guard, HTTP_COOKIE=cookie) is None
    assert sign_in(guard, code=link).status.startswith("403")


def test_signing_out_deletes_the_cookie(signed_in: tuple[Any, str]) -> None:
    mill, cookie = signed_in
    fields = form(csrf=csrf_of(first_page(mill, cookie)))
    response = mill.send("POST", "/perf/sign-out", HTTP_COOKIE=cookie, **fields)
    header = response.header("Set-Cookie")
    assert header.startswith("knitperf=;") and "Max-Age=0" in header


def test_a_session_that_signed_out_opens_nothing_on_any_worker(
    make_closed: Callable[..., Any],
) -> None:
    workers = [make_closed(TESTING=False), make_closed(TESTING=False)]
    cookies = [
        session_of(workers[0].send("POST", "/perf/sign-in", **form(token=TOKEN))) for _ in range(2)
    ]
    fields = form(csrf=csrf_of(first_page(workers[0], cookies[0])))
    workers[0].send("POST", "/perf/sign-out", HTTP_COOKIE=cookies[0], **fields)
    codes = [
        [m.get("/perf/report", HTTP_COOKIE=cookie).code for m in workers] for cookie in cookies
    ]
    assert codes == [[404, 404], [200, 200]]


def unusable() -> Path:
    raise StateError("belongs to another user")


def test_without_a_usable_state_directory_no_link_signs_in_and_no_session_ends(time: Any) -> None:
    guard = make_guard(lambda: time.epoch, folder=unusable)
    assert sign_in(guard, code=new_code(time.epoch)).status.startswith("403")
    cookie = session_of(sign_in(guard))
    csrf = decide(guard, HTTP_COOKIE=cookie).csrf
    for _ in range(2):
        fields = form(csrf=csrf)
        response = decide(guard, "/perf/sign-out", "POST", HTTP_COOKIE=cookie, **fields)
        assert response.status.startswith("500")


def test_a_signed_out_session_stays_out_when_the_state_directory_is_lost(
    time: Any, tmp_path: Path
) -> None:
    state = tmp_path / "state"

    def folder() -> Path:
        state.mkdir(exist_ok=True)
        return state

    one, two = (make_guard(lambda: time.epoch, folder=folder) for _ in range(2))
    one.begin(), two.begin()
    out, in_ = session_of(sign_in(one)), session_of(sign_in(one))
    fields = form(csrf=decide(one, HTTP_COOKIE=out).csrf)
    decide(one, "/perf/sign-out", "POST", HTTP_COOKIE=out, **fields)
    shutil.rmtree(state)
    assert [decide(guard, HTTP_COOKIE=out) for guard in (two, one)] == [None, None]
    again = session_of(sign_in(two))
    started_later = make_guard(lambda: time.epoch, folder=folder)
    for guard in (one, two, started_later):
        assert [decide(guard, HTTP_COOKIE=cookie) for cookie in (out, in_)] == [None, None]
        assert isinstance(decide(guard, HTTP_COOKIE=again), Principal)


def test_a_used_link_stays_used_when_the_state_directory_is_lost(time: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"

    def folder() -> Path:
        state.mkdir(exist_ok=True)
        return state

    record = Revocations(folder, Disk())
    guard = make_guard(lambda: time.epoch, revocations=record)
    code = new_code(time.epoch, origin=record.origin())
    assert sign_in(guard, code=code).status.startswith("303")
    shutil.rmtree(state)
    assert sign_in(guard, code=code).status.startswith("403")


@pytest.mark.parametrize("days", [-3, 1, 3])
def test_a_clock_that_jumps_and_comes_back_revives_nothing(
    time: Any, tmp_path: Path, days: int
) -> None:
    guard = make_guard(lambda: time.epoch, folder=lambda: tmp_path)
    code, out = new_code(time.epoch), session_of(sign_in(guard))
    assert sign_in(guard, code=code).status.startswith("303")
    fields = form(csrf=decide(guard, HTTP_COOKIE=out).csrf)
    decide(guard, "/perf/sign-out", "POST", HTTP_COOKIE=out, **fields)
    time.pass_(days * 86400)
    other = session_of(sign_in(guard))
    fields = form(csrf=decide(guard, HTTP_COOKIE=other).csrf)
    decide(guard, "/perf/sign-out", "POST", HTTP_COOKIE=other, **fields)
    time.pass_(-days * 86400)
    for worker in (guard, make_guard(lambda: time.epoch, folder=lambda: tmp_path)):
        assert decide(worker, HTTP_COOKIE=out) is None
        assert sign_in(worker, code=code).status.startswith("403")


def test_a_new_session_ends_the_former_one_of_its_browser(signed_in: tuple[Any, str]) -> None:
    mill, former = signed_in
    response = mill.send("POST", "/perf/sign-in", HTTP_COOKIE=former, **form(token=TOKEN))
    codes = [mill.get("/perf/report", HTTP_COOKIE=c).code for c in (former, session_of(response))]
    assert codes == [404, 200]


def test_a_failed_sign_in_leaves_the_session_of_its_browser(signed_in: tuple[Any, str]) -> None:
    mill, former = signed_in
    mill.send("POST", "/perf/sign-in", HTTP_COOKIE=former, **form(token=OTHER))
    assert mill.get("/perf/report", HTTP_COOKIE=former).code == 200


def test_a_viewer_ends_with_its_session(closed: Any) -> None:
    response = closed.send("POST", "/perf/sign-in", **form(token=TOKEN))
    session = session_of(response)
    viewer = cookies_of(response)["knitperf_viewer"].partition(";")[0]
    assert closed.get("/", HTTP_COOKIE=viewer).header("Server-Timing") is not None
    fields = form(csrf=csrf_of(first_page(closed, session)))
    closed.send("POST", "/perf/sign-out", HTTP_COOKIE=session, **fields)
    assert closed.get("/", HTTP_COOKIE=viewer).header("Server-Timing") is None


def test_every_session_of_a_browser_is_revoked(time: Any, tmp_path: Path) -> None:
    guard = make_guard(lambda: time.epoch, folder=lambda: tmp_path)
    one, two = (session_of(sign_in(guard)) for _ in range(2))
    both = f"knitperf=junk; {one}; {two}"
    fields = form(csrf=decide(guard, HTTP_COOKIE=both).csrf)
    decide(guard, "/perf/sign-out", "POST", HTTP_COOKIE=both, **fields)
    assert [decide(guard, HTTP_COOKIE=cookie) for cookie in (one, two, both)] == [None] * 3


def test_a_sign_out_that_cannot_be_recorded_is_an_error(time: Any, tmp_path: Path) -> None:
    class FullDisk(Disk):
        def append(self, path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    record = Revocations(lambda: tmp_path, FullDisk())
    guard = make_guard(lambda: time.epoch, revocations=record)
    cookie = session_of(sign_in(guard))
    principal = decide(guard, HTTP_COOKIE=cookie)
    fields = form(csrf=principal.csrf)
    response = decide(guard, "/perf/sign-out", "POST", HTTP_COOKIE=cookie, **fields)
    assert response.status.startswith("500") and b"stays valid" in response.body


@pytest.mark.parametrize("fields", [{}, {"csrf": ""}, {"csrf": "0" * 64}, {"token": TOKEN}])
def test_signing_out_needs_the_csrf_token(
    signed_in: tuple[Any, str], fields: dict[str, str]
) -> None:
    mill, cookie = signed_in
    response = mill.send("POST", "/perf/sign-out", HTTP_COOKIE=cookie, **form(**fields))
    assert response.code == 403 and response.header("Set-Cookie") is None


def test_a_get_of_sign_out_does_not_sign_out(signed_in: tuple[Any, str]) -> None:
    mill, cookie = signed_in
    assert mill.get("/perf/sign-out", HTTP_COOKIE=cookie).header("Set-Cookie") is None
