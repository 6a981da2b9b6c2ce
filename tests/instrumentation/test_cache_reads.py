"""A value whose load read request data that is not in its key is not cached."""

from __future__ import annotations

import gc
import logging
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import flask
import flask_login
import pytest
from flask import g, request, session
from flask.sessions import SecureCookieSession

from flask_knitperf import KnitPerf
from flask_knitperf.caching import single_flight
from flask_knitperf.collectors.requests.endpoint_series import endpoint_of, routed_endpoint
from flask_knitperf.instrumentation import cache_reads
from flask_knitperf.recording.span import current

log = logging.getLogger("mill")


class Site:
    """An application with one page, whose cached load the test gives."""

    def __init__(self) -> None:
        self.app = flask.Flask("mill")
        self.app.config.update(TESTING=True, SECRET_KEY="x" * 16)
        self.perf = KnitPerf(self.app)
        self.loads = 0
        self.app.add_url_rule("/orders/<int:number>", "order", lambda number: "")

    def page(
        self, load: Callable[..., Any], *args: Any, rule: str = "/page", **options: Any
    ) -> Any:
        """Serve a cached load; return a function that requests the page."""

        def counted(*args: Any) -> Any:
            self.loads += 1
            return load(*args)

        counted.__name__ = counted.__qualname__ = "load"
        self.cached = self.perf.cache.cached(**options)(counted)
        self.app.add_url_rule(rule, "page", lambda **_: str(self.cached(*args)))

        def visit(path: str = "/page", user: str | None = "anna", **more: Any) -> str:
            client = self.app.test_client()
            if user is not None:
                with client.session_transaction() as store:
                    store["user_id"] = user
            return client.get(path, **more).text

        return visit

    @property
    def reads(self) -> dict[tuple[str, str], str]:
        return dict(self.cached.__knitperf_cache__.region.unkeyed_reads)


@pytest.fixture
def new_site() -> Iterator[Callable[[], Site]]:
    sites: list[Site] = []

    def create() -> Site:
        sites.append(Site())
        return sites[-1]

    yield create
    for site in sites:
        site.app.extensions["knitperf"].close()


@pytest.fixture
def site(new_site: Callable[[], Site]) -> Site:
    return new_site()


def user_id() -> Any:
    return flask_login.current_user.get_id()


def on_g() -> str:
    return f"hello {g.user}"


SESSION: dict[str, Callable[[], Any]] = {
    "item": lambda: session["user_id"], "get": lambda: session.get("user_id"),
    "in": lambda: "user_id" in session, "setdefault": lambda: session.setdefault("user_id", 1),
    "pop": lambda: session.pop("user_id"),
}  # fmt: skip
WHOLE_SESSION: dict[str, Callable[[], Any]] = {
    "dict": lambda: dict(session), "items": lambda: list(session.items()), "len": lambda: len(session),
    "iteration": lambda: list(session), "copy": lambda: session.copy() or 0,
    "equal": lambda: session == {"user_id": "anna"}, "unpacked": lambda: {**session},
    "values": lambda: list(session.values()), "keys": lambda: list(session.keys()),
    "union": lambda: session | {}, "popitem": lambda: session.popitem() or 0,
}  # fmt: skip
REQUEST = (
    "args", "cookies", "headers", "form", "values", "remote_addr", "authorization", "user_agent",
    "accept_languages", "host", "url", "full_path", "query_string", "environ", "data", "view_args",
    "referrer", "access_route", "files", "date",
)  # fmt: skip


@pytest.mark.parametrize("name", SESSION)
def test_a_read_of_a_key_of_the_session_is_named(site: Site, name: str) -> None:
    visit = site.page(SESSION[name])
    answers = [
        visit(user=user) for user in ("anna", "bert", None) if name != "item" and name != "pop"
    ]
    visit(), visit()
    assert ("session", "user_id") in site.reads and site.loads == len(answers) + 2


@pytest.mark.parametrize("name", WHOLE_SESSION)
def test_a_read_of_the_whole_session_is_named(site: Site, name: str) -> None:
    visit = site.page(WHOLE_SESSION[name])
    visit(), visit()
    assert ("session", "") in site.reads and site.loads == 2


@pytest.mark.parametrize("name", REQUEST)
def test_a_read_of_the_request_is_named(site: Site, name: str) -> None:
    visit = site.page(lambda: repr(getattr(request, name)))
    visit(), visit()
    assert ("request", name) in site.reads and site.loads == 2


def test_the_finding_names_the_line_and_the_repair(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    visit = site.page(lambda: session["user_id"])
    visit(), visit()
    (record,) = [record for record in caplog.records if record.name == "flask_knitperf"]
    assert "reads session['user_id'] (instrumentation/test_cache_reads.py:" in record.message
    assert "vary='user'" in record.message
    counts = site.perf.cache.get_statistics()["total"]
    assert (counts["unkeyed"], counts["refused"], counts["entries"]) == (2, 2, 0)


def test_what_vary_and_key_read_is_covered(site: Site, new_site: Callable[[], Site]) -> None:
    visit = site.page(lambda: session.get("user_id"), vary="user")
    assert [visit(user=user) for user in ("anna", "bert", "anna", "bert")] == ["anna", "bert"] * 2
    assert site.loads == 2 and site.reads == {}
    other = new_site()
    visit = other.page(lambda: request.args["page"], vary="url")
    assert [visit(f"/page?page={page}") for page in "1212"] == list("1212")
    assert other.loads == 2


def test_one_of_many_values_does_not_cover_the_others(site: Site) -> None:
    visit = site.page(lambda: request.args["user"], vary=lambda: request.args["page"])
    assert [visit(f"/page?page=1&user={user}") for user in ("anna", "bert")] == ["anna", "bert"]
    assert ("request", "args") in site.reads


def test_a_key_that_the_load_has_used_up_is_no_error(site: Site) -> None:
    visit = site.page(lambda: session.pop("user_id"), vary=lambda: session["user_id"])
    assert [visit(user=user) for user in ("anna", "bert", "anna")] == ["anna", "bert", "anna"]


def test_reads_below_login_required_are_those_of_the_load(site: Site) -> None:
    manager = flask_login.LoginManager(site.app)

    class User(flask_login.UserMixin):  # type: ignore[misc]
        id = "anna"

    manager.user_loader(lambda _: User())
    site.app.before_request(lambda: flask_login.login_user(User()) and None)
    cached = site.perf.cache.cached(vary="user")(lambda: request.args["page"])
    site.app.add_url_rule("/in", "in", flask_login.login_required(lambda: str(cached())))
    pages = [site.app.test_client().get(f"/in?page={page}").text for page in "1212"]
    assert pages == list("1212")


def test_an_error_of_one_user_is_not_that_of_another(site: Site) -> None:
    started, go = threading.Event(), threading.Event()

    def load() -> str:
        user = session["user_id"]
        if user == "intern":
            started.set()
            assert go.wait(30)
            flask.abort(403)
        return str(user)

    visit = site.page(load)
    answers: dict[str, str] = {}

    def call(user: str) -> None:
        answers[user] = visit(user=user)

    threads = [threading.Thread(target=call, args=(user,)) for user in ("intern", "admin")]
    threads[0].start()
    assert started.wait(30)
    threads[1].start()
    while not single_flight._WAITING:
        pass
    go.set()
    for thread in threads:
        thread.join()
    assert answers["admin"] == "admin" and "Forbidden" in answers["intern"]


def test_the_routing_of_a_load_within_another_is_that_of_both(site: Site) -> None:
    inner = site.perf.cache.cached(lambda: request.path)
    visit = site.page(lambda: f"at {inner()}", rule="/page/<name>")
    site.app.add_url_rule("/inner/<name>", "inner", lambda name: inner())
    assert site.app.test_client().get("/inner/a").text == "/inner/a"
    for name in "abab":
        assert visit(f"/page/{name}", user=None) == f"at /page/{name}"


def test_a_load_that_reads_too_much_is_not_cached(site: Site) -> None:
    def load() -> str:
        for number in range(100):
            g.get(f"name{number}")
        return str(session["user_id"])

    visit = site.page(load)
    assert [visit(user=user) for user in ("anna", "bert")] == ["anna", "bert"]


def test_objects_of_a_request_are_not_values(site: Site) -> None:
    visit = site.page(lambda: {"session": session._get_current_object()})  # type: ignore[attr-defined]
    assert ["anna" in visit(user="anna"), "bert" in visit(user="bert")] == [True, True]


def test_g_of_an_application_context_is_observed(site: Site) -> None:
    cached = site.perf.cache.cached(lambda: g.tenant)
    for tenant in ("one", "two"):
        with site.app.app_context():
            g.tenant = tenant
            assert cached() == tenant


def test_a_load_within_a_read_of_the_request_is_observed(site: Site) -> None:
    cached = site.perf.cache.cached(lambda: session["user_id"])

    class Request(flask.Request):
        @property
        def owner(self) -> Any:
            return cached()

    site.app.request_class = Request
    visit = site.page(lambda: request.owner)  # type: ignore[attr-defined]
    assert [visit(user=user) for user in ("anna", "bert")] == ["anna", "bert"]


def test_links_depend_on_prefix_and_scheme(site: Site) -> None:
    visit = site.page(lambda: flask.url_for("order", number=1, _external=True))
    bases = ["http://x.test/", "https://x.test/", "http://x.test/mill", "http://x.test/"]
    links = [visit(base_url=base, user=None) for base in bases]
    assert links == [f"{base.rstrip('/')}/orders/1" for base in bases]


def test_a_user_without_a_truth_value_is_a_user(site: Site) -> None:
    manager = flask_login.LoginManager(site.app)

    class User(flask_login.UserMixin):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.id = name

        def __len__(self) -> int:
            return 0

    manager.user_loader(User)
    site.app.before_request(lambda: flask_login.login_user(User(request.args["user"])) and None)
    visit = site.page(user_id, vary="user")
    assert [visit(f"/page?user={user}") for user in ("anna", "bert")] == ["anna", "bert"]


def test_a_user_on_g_is_named(site: Site) -> None:
    site.app.before_request(lambda: setattr(g, "user", session.get("user_id")))
    visit = site.page(on_g)
    assert [visit(user=user) for user in ("anna", "bert")] == ["hello anna", "hello bert"]
    assert site.reads.keys() == {("g", "user")}


@pytest.mark.parametrize(
    "read",
    [lambda: g.get("user"), lambda: "user" in g, lambda: getattr(g, "user", None), lambda: list(g),
     lambda: g.pop("user", None), lambda: g.setdefault("other", 1) and g.user],
)  # fmt: skip
def test_every_way_to_g_is_recorded(site: Site, read: Any) -> None:
    site.app.before_request(lambda: setattr(g, "user", 7))
    visit = site.page(read)
    visit(), visit()
    assert {source for source, _ in site.reads} == {"g"} and site.loads == 2


def test_that_a_name_is_missing_on_g_is_a_read(site: Site) -> None:
    visit = site.page(lambda: g.get("user"))
    visit(user=None)
    assert ("g", "user") in site.reads


def test_what_the_load_puts_on_g_itself_is_not_a_read(site: Site) -> None:
    def load() -> str:
        if "table" not in g:
            g.table = {"a": 1}
        return str(g.table) + str(g.setdefault("rows", [2])) + str(g.rows)

    visit = site.page(load)
    assert [visit() for _ in range(2)] == ["{'a': 1}[2][2]"] * 2 and site.loads == 1


def test_a_connection_on_g_is_not_data(site: Site) -> None:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    site.app.before_request(lambda: setattr(g, "db", connection))
    visit = site.page(lambda: g.db.execute("select 7").fetchone()[0])
    assert [visit() for _ in range(2)] == ["7"] * 2 and site.loads == 1
    connection.close()


def test_a_user_with_the_methods_of_a_connection_is_data(site: Site) -> None:
    class User:
        name = "anna"

        def execute(self) -> None: ...

    site.app.before_request(lambda: setattr(g, "user", User()))
    visit = site.page(lambda: g.user.name)
    assert [visit() for _ in range(2)] == ["anna"] * 2 and site.loads == 2


def test_reads_for_a_log_record_are_not_those_of_the_load(site: Site) -> None:
    class User(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            record.user = session.get("user_id")
            return True

    handler = logging.NullHandler()
    handler.addFilter(User())
    handler.handle = handler.filter  # type: ignore[assignment, method-assign]
    log.addHandler(handler)
    try:
        visit = site.page(lambda: log.warning("loading") or "done")
        assert [visit(user=user) for user in ("anna", "bert")] == ["done"] * 2
    finally:
        log.removeHandler(handler)
    assert site.loads == 1 and site.reads == {}


def test_a_value_that_depends_on_routing_is_for_requests_of_its_route(site: Site) -> None:
    visit = site.page(lambda: request.path.rpartition("/")[2], rule="/page/<name>")
    assert [visit(f"/page/{name}") for name in "aabba"] == list("aabba")
    assert site.loads == 2 and site.reads == {}


def test_links_are_for_requests_to_their_host(site: Site) -> None:
    visit = site.page(lambda: flask.url_for("order", number=1, _external=True))
    hosts = ["one.test", "one.test", "two.test", "one.test"]
    links = [visit(base_url=f"http://{host}/", user=None) for host in hosts]
    assert links == [f"http://{host}/orders/1" for host in hosts] and site.loads == 2


def test_a_value_with_routing_is_for_no_code_outside_of_requests(site: Site) -> None:
    visit = site.page(lambda: "path" if flask.has_request_context() and request.path else "none")
    assert visit() == visit() == "path"
    with site.app.app_context():
        assert site.cached() == "none"


def test_a_load_that_waited_for_another_route_loads_for_itself(site: Site) -> None:
    started, go = threading.Event(), threading.Event()

    def load() -> str:
        if request.path == "/page/a":
            started.set()
            assert go.wait(30)
        return request.path

    visit = site.page(load, rule="/page/<name>")
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(visit("/page/a", user=None)))]
    threads[0].start()
    assert started.wait(30)
    threads.append(threading.Thread(target=lambda: answers.append(visit("/page/b", user=None))))
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["/page/a", "/page/b"]


def test_current_user_of_flask_login_is_one_read(site: Site, new_site: Callable[[], Site]) -> None:
    manager = flask_login.LoginManager(site.app)

    class User(flask_login.UserMixin):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.id = name

    manager.user_loader(User)
    site.app.before_request(
        lambda: flask_login.login_user(User(request.args["user"])) and None
    )  # fmt: skip
    visit = site.page(user_id)
    assert [visit(f"/page?user={user}") for user in ("anna", "bert")] == ["anna", "bert"]
    assert site.reads.keys() == {("current_user", "")}
    other = new_site()
    other.app.login_manager = manager  # type: ignore[attr-defined]
    other.app.before_request(
        lambda: flask_login.login_user(User(request.args["user"])) and None
    )  # fmt: skip
    visit = other.page(user_id, vary="user")
    assert [visit(f"/page?user={user}") for user in ("anna", "bert", "anna")] == [
        "anna",
        "bert",
        "anna",
    ]
    assert other.loads == 2


def test_a_load_within_another_is_read_by_both(site: Site) -> None:
    inner = site.perf.cache.cached(vary="user")(lambda: session["user_id"])
    visit = site.page(lambda: f"hello {inner()}")
    users = ("anna", "bert", "anna", "bert")
    assert [visit(user=user) for user in users] == [f"hello {user}" for user in users]
    assert ("session", "user_id") in site.reads and site.loads == 4


def test_a_thread_of_the_load_records_into_it(site: Site) -> None:
    def load() -> str:
        answer: list[str] = []
        run = flask.copy_current_request_context(lambda: answer.append(session["user_id"]))
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return answer[0]

    visit = site.page(load)
    assert [visit(user=user) for user in ("anna", "bert")] == ["anna", "bert"]
    assert ("session", "user_id") in site.reads


def test_objects_have_their_classes_again_after_the_load(site: Site) -> None:
    def classes() -> list[type]:
        return [type(o._get_current_object()) for o in (request, session, g)]  # type: ignore[attr-defined]

    seen: list[list[type]] = []

    def load() -> str:
        seen.append(classes())
        assert isinstance(session._get_current_object(), SecureCookieSession)  # type: ignore[attr-defined]
        assert [kind.__name__ for kind in seen[-1]] == [kind.__name__ for kind in before]
        raise LookupError

    before: list[type] = []
    cached = site.perf.cache.cached(load)

    @site.app.get("/page")
    def page() -> str:
        before[:] = classes()
        with pytest.raises(LookupError):
            cached()
        assert classes() == before
        return "fine"

    assert site.app.test_client().get("/page").text == "fine"
    assert not set(seen[0]) & set(before) and cache_reads._OBSERVED == {}


def test_a_load_does_not_mark_the_session_as_accessed(site: Site) -> None:
    site.page(lambda: 1)
    response = site.app.test_client().get("/page")
    assert "Cookie" not in response.headers.get("Vary", "")


def test_a_session_whose_class_cannot_be_changed_is_left_alone(site: Site) -> None:
    class Slim(dict):  # type: ignore[type-arg]
        __slots__ = ("accessed", "modified", "new", "permanent")

    class Interface(flask.sessions.SessionInterface):
        def open_session(self, app: Any, request: Any) -> Any:
            store = Slim(user_id="anna")
            store.accessed = store.modified = store.new = store.permanent = False
            return store

        def save_session(self, *args: Any) -> None: ...

    site.app.session_interface = Interface()
    visit = site.page(lambda: 5)
    assert visit(user=None) == visit(user=None) == "5"


def test_a_request_is_freed_after_its_loads(site: Site) -> None:
    references: list[Any] = []

    def load() -> int:
        references.append(weakref.ref(request._get_current_object()))  # type: ignore[attr-defined]
        return 1

    visit = site.page(load)
    visit()
    gc.collect()
    assert references[0]() is None


def test_a_name_that_cannot_be_recorded_is_a_read_still(site: Site) -> None:
    class Name(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return str.__hash__(self)

        def __str__(self) -> str:
            raise LookupError("never")

    visit = site.page(lambda: session.get(Name("user_id")))
    assert [visit(user=user) for user in ("anna", "bert")] == ["anna", "bert"]
    assert site.reads == {("session", "?"): ""}


def test_a_failure_of_the_record_is_a_read_still(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_reads, "caller", None)
    visit = site.page(lambda: session["user_id"])
    assert [visit(user=user) for user in ("anna", "bert")] == ["anna", "bert"]
    assert site.reads == {("session", "?"): ""}


def test_an_error_that_is_cached_depends_on_the_request_too(site: Site) -> None:
    def load() -> None:
        raise PermissionError(session["user_id"])

    cached = site.perf.cache.cached(errors=PermissionError)(load)

    @site.app.get("/page")
    def page() -> str:
        try:
            cached()
        except PermissionError as error:
            return str(error)
        raise AssertionError

    for user in ("anna", "bert"):
        client = site.app.test_client()
        with client.session_transaction() as store:
            store["user_id"] = user
        assert client.get("/page").text == user


@pytest.mark.parametrize("where", ["in the load", "in a thread of this package"])
def test_a_read_by_this_package_is_none_of_the_load(site: Site, where: str) -> None:
    def name_the_request(span: Any, names: list[Any]) -> None:
        names.append(routed_endpoint(span))
        if where != "in the load":
            names.append(getattr(span.environ["werkzeug.request"], "url_rule").endpoint)  # noqa: B009

    def load() -> str:
        names: list[Any] = []
        span = current()
        if where == "in the load":
            name_the_request(span, names)
        else:
            args = span, names
            thread = threading.Thread(
                target=name_the_request, args=args, name="flask_knitperf-housekeeper"
            )
            thread.start()
            thread.join()
        return str(names[-1])

    visit = site.page(load)
    assert [visit(), visit()] == ["page", "page"] and site.loads == 1
    assert site.cached.__knitperf_cache__.region.routing == ()


def test_our_own_look_at_a_request_is_no_read_of_its_load(site: Site) -> None:
    """The housekeeper and the collectors read the endpoint of a request while a value is loaded."""
    profile = site.app.extensions["knitperf"].profile

    def load() -> str:
        endpoint_of(profile.recorder.span())
        housekeeper = threading.Thread(target=profile.in_flight.tick)
        housekeeper.start()
        housekeeper.join()
        return "x"

    site.page(load)()
    assert site.cached.__knitperf_cache__.region.routing == ()
