"""Loads of a mill's pages whose result depends on the user, and others that only seem to.

This corpus was written from the issue's text by an author who had not seen the cache; it did not exist.

`cases()` gives them: the dependent ones, then the others, then those beyond (`case.kind`). A case is a
function `load` which a view calls within a request. `create_app(case, cached)` makes an application
around it, in which `cached` decorates the load, and `case.visit(client, user)` serves one request of one
of the two `USERS`: the two differ in everything, session, cookies, headers, address, host and query,
in all cases alike. It returns status and body.

- A `dependent` load reads `session`, `request`, `g` or Flask-Login's `current_user`, and its answer is
  another one for the other user. None of it is among its arguments. A cache must answer both users as
  without a cache, and name the load. `case.reads` has words which the finding must contain, such as
  `("session", "user_id")`; the line that reads is marked `# reads: <name>` (`line_of(name)`).
- An `other` load touches them too, but its answer does not depend on the user, or only by an argument
  (`case.differs`, then the view passes the user to the load). It should be kept and not be named.
- A load `beyond` depends on the user by a detour that reads of the three objects cannot show: a
  context variable, a thread-local, the address of the current request. Its finding may be missing;
  the documentation has to name these.

Run as a script, it serves both users in turn without a cache and checks that answers differ or not as
stated, and that a cache by arguments alone would show one user the other's answer.
"""

from __future__ import annotations

import base64
import collections
import contextvars
import functools
import importlib.util
import itertools
import json
import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import (
    Blueprint,
    Flask,
    abort,
    after_this_request,
    copy_current_request_context,
    current_app,
    g,
    get_flashed_messages,
    has_request_context,
    render_template_string,
    request,
    session,
    url_for,
)
from flask.testing import FlaskClient
from werkzeug.local import Local, LocalProxy

__all__ = ["USERS", "Case", "cases", "create_app", "line_of"]

USERS = ("ada", "grete")

Load = Callable[..., str]
Decorator = Callable[[Load], Load]
Setup = Callable[[Flask, Decorator], None]

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class User:
    """Everything in which two users' requests differ."""

    name: str
    number: int
    role: str
    tenant: str
    language: str
    address: str
    agent: str
    basket: tuple[str, ...]
    premium: bool


_USERS = {
    "ada": User("ada", 7, "planner", "north", "de", "192.0.2.7", "Mill/7",
                ("alpaca", "merino"), True),
    "grete": User("grete", 8, "knitter", "south", "sv", "192.0.2.8", "Mill/8",
                  ("mohair",), False),
}  # fmt: skip
_request_numbers = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Case:
    """One load.

    Attributes:
        name: the name of its function.
        load: the function.
        kind: `dependent`, `other` or `beyond`.
        reads: words that a finding about it must contain.
        differs: whether the two users' answers differ.
        setup: prepares the application: hooks, context processors, login managers.
        arguments: what the view passes to the load.
        request: more parameters of a user's request, as of `client.open`.
        rule: the URL rule of the view.
        needs: modules without which the case cannot run.
    """

    name: str
    load: Load
    kind: str
    reads: tuple[str, ...]
    differs: bool
    setup: Setup
    arguments: Callable[[], tuple[Any, ...]]
    request: Callable[[User], dict[str, Any]]
    rule: str
    needs: tuple[str, ...]

    def available(self) -> bool:
        """Return whether its modules are installed."""
        return all(importlib.util.find_spec(module) for module in self.needs)

    def visit(self, client: FlaskClient, user: str) -> str:
        """Serve one request of a user; return its status and body."""
        visitor = _USERS[user]
        parameters = _parameters(visitor) | self.request(visitor)
        client.set_cookie("user", user, domain=f"{visitor.tenant}.mill.test")
        with client.session_transaction(base_url=parameters["base_url"]) as store:
            store.clear()
            store.update(_session(visitor))
        response = client.open(**parameters)
        return f"{response.status_code} {response.get_data(as_text=True)}"


def _parameters(user: User) -> dict[str, Any]:
    secret = base64.b64encode(f"{user.name}:secret".encode()).decode()
    return {
        "path": "/load",
        "base_url": f"http://{user.tenant}.mill.test/",
        "query_string": {"user": user.name},
        "headers": {
            "Accept-Language": user.language,
            "Authorization": f"Basic {secret}",
            "User-Agent": user.agent,
            "X-Request-Id": f"request-{next(_request_numbers)}",
            "X-User": user.name,
        },
        "environ_overrides": {"REMOTE_ADDR": user.address, "REMOTE_USER": user.name},
    }


def _session(user: User) -> dict[str, Any]:
    flashes = [("message", f"Welcome, {user.name}")]
    values: dict[str, Any] = {"user_id": user.number, "role": user.role, "_flashes": flashes}
    values |= {"basket": list(user.basket), "_user_id": user.name}
    return values | ({"premium": True} if user.premium else {})


def create_app(case: Case, cached: Decorator = lambda load: load) -> Flask:
    """Return an application whose only view calls the decorated load of a case."""
    app = Flask("mill")
    app.config.update(SECRET_KEY="of the corpus", TESTING=True, CURRENCY="EUR")
    load = cached(case.load)
    case.setup(app, cached)

    def view(**_: object) -> str:
        return load(*case.arguments())

    app.add_url_rule(case.rule, "view", view, methods=["GET", "POST"])
    app.add_url_rule("/orders/<int:number>", "order")
    return app


def line_of(name: str) -> int:
    """Return the number of the line that is marked as the one that reads."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    [number] = [number for number, line in enumerate(lines, 1) if line.endswith(f"# reads: {name}")]
    return number


_CASES: list[Case] = []


def cases() -> list[Case]:
    """Return the dependent loads, then the others, then those beyond."""
    order = ("dependent", "other", "beyond")
    return sorted(_CASES, key=lambda case: order.index(case.kind))


def _no_setup(app: Flask, cached: Decorator) -> None:
    pass


def _register(
    kind: str,
    reads: tuple[str, ...] = (),
    setup: Setup = _no_setup,
    arguments: Callable[[], tuple[Any, ...]] = lambda: (),
    request: Callable[[User], dict[str, Any]] = lambda user: {},
    rule: str = "/load",
    needs: tuple[str, ...] = (),
    differs: bool | None = None,
) -> Callable[[Load], Load]:
    apart = kind != "other" if differs is None else differs

    def register(load: Load) -> Load:
        row = (load.__name__, load, kind, reads, apart, setup, arguments, request, rule, needs)
        _CASES.append(Case(*row))
        return load

    return register


dependent = functools.partial(_register, "dependent")
other = functools.partial(_register, "other")
beyond = functools.partial(_register, "beyond")


# Dependent: the session.


@dependent(("session", "user_id"))
def session_item() -> str:
    """Orders of the user of the session: each user's are different."""
    return f"orders of {session['user_id']}"  # reads: session_item


@dependent(("session", "user_id"))
def session_get() -> str:
    """Orders of the user, if there is one: each user's are different."""
    return f"orders of {session.get('user_id', 'a guest')}"  # reads: session_get


@dependent(("session", "premium"))
def session_membership() -> str:
    """Discount by the presence of a key, which is never read: one user has it."""
    return "discount 5 %" if "premium" in session else "list price"  # reads: session_membership


@dependent(("session", "premium"))
def session_missing_key() -> str:
    """Discount by a key whose absence is an error that is caught: one user has it."""
    try:
        return f"discount {session['premium']}"  # reads: session_missing_key
    except KeyError:
        return "list price"


@dependent(("session",))
def session_copied() -> str:
    """Settings of a copy of the whole session: each user's are different."""
    settings = dict(session)  # reads: session_copied
    return f"menu of a {settings['role']}"


@dependent(("session",))
def session_unpacked() -> str:
    """Number of a keyword argument from the unpacked session: each user's is different."""

    def menu(role: str, **_: object) -> str:
        return f"menu of a {role}"

    return menu(**session)  # reads: session_unpacked


@dependent(("session",))
def session_iterated() -> str:
    """Names of the session's keys: one user has another key."""
    return ", ".join(sorted(session))  # reads: session_iterated


@dependent(("session",))
def session_items() -> str:
    """Values of the session's items that are numbers: each user's are different."""
    return str(
        [value for key, value in session.items() if key == "user_id"]
    )  # reads: session_items


@dependent(("session",))
def session_counted() -> str:
    """Number of values in the session: one user has more."""
    return f"{len(session)} settings"  # reads: session_counted


@dependent(("session", "basket"))
def session_nested_value() -> str:
    """Length of a list in the session: each user's basket is different."""
    return f"{len(session['basket'])} yarns in the basket"  # reads: session_nested_value


@dependent(("session", "role"))
def session_object_behind_proxy() -> str:
    """Role by the object behind the proxy: each user's is different."""
    store = session._get_current_object()  # type: ignore[attr-defined]
    return f"menu of a {store['role']}"  # reads: session_object_behind_proxy


@dependent(("session", "role"))
def session_match() -> str:
    """Menu by a mapping pattern on the session: each user's is different."""
    match session._get_current_object():  # type: ignore[attr-defined]
        case {"role": "planner"}:  # reads: session_match
            return "menu of a planner"
        case _:
            return "menu of others"


@dependent(("session", "user_id"))
def session_set_by_default() -> str:
    """User by `setdefault`, which also writes: each user's is different."""
    return f"orders of {session.setdefault('user_id', 0)}"  # reads: session_set_by_default


@dependent(("session",))
def session_opened_by_interface() -> str:
    """User of a session that the load opens from the request's cookies: different."""
    interface = current_app.session_interface
    store = interface.open_session(current_app, request)  # reads: session_opened_by_interface
    return f"orders of {(store or {}).get('user_id')}"


@dependent(("session", "flashes"))
def flashed_messages() -> str:
    """Messages of the session, which Flask reads: each user's are different."""
    return " ".join(map(str, get_flashed_messages()))  # reads: flashed_messages


@dependent(("session", "role"))
def forbidden_by_role() -> str:
    """A plan for planners, an error for others: a kept plan would be shown to a knitter."""
    if session.get("role") != "planner":  # reads: forbidden_by_role
        abort(403)
    return "plan of the north hall"


def _needs_role(role: str) -> Callable[[Load], Load]:
    def decorate(load: Load) -> Load:
        @functools.wraps(load)
        def guarded(*args: Any) -> str:
            if session.get("role") != role:  # reads: forbidden_by_decorator
                return "for planners only"
            return load(*args)

        return guarded

    return decorate


@dependent(("session", "role"))
@_needs_role("planner")
def forbidden_by_decorator() -> str:
    """A plan behind a decorator that reads the role: users' answers differ."""
    return "plan of the north hall"


# Dependent: the request.


@dependent(("request", "args"))
def request_args() -> str:
    """Orders of a user of the query: each user's are different."""
    return f"orders of {request.args['user']}"  # reads: request_args


@dependent(("request", "values"))
def request_values() -> str:
    """Orders of a user of query or form: each user's are different."""
    return f"orders of {request.values.get('user')}"  # reads: request_values


@dependent(("request", "full_path"))
def request_full_path() -> str:
    """Link to the next page with the query of this one: each user's is different."""
    return f"{request.full_path}&page=2"  # reads: request_full_path


@dependent(("request", "query_string"))
def request_query_string() -> str:
    """Length of the query's bytes: each user's is different."""
    return f"query of {len(request.query_string)} bytes"  # reads: request_query_string


@dependent(("request", "url"))
def request_url() -> str:
    """Address of the page for a link that is shared: each user's is different."""
    return f"share {request.url}"  # reads: request_url


@dependent(("request", "cookies"))
def request_cookies() -> str:
    """Orders of a user of a cookie: each user's are different."""
    return f"orders of {request.cookies.get('user')}"  # reads: request_cookies


@dependent(("request", "headers"))
def request_headers() -> str:
    """Orders of a user of a proxy's header: each user's are different."""
    return f"orders of {request.headers['X-User']}"  # reads: request_headers


@dependent(("request", "environ"))
def request_environ() -> str:
    """Orders of a user by the WSGI environment: each user's are different."""
    return f"orders of {request.environ.get('HTTP_X_USER')}"  # reads: request_environ


@dependent(("request", "remote_addr"))
def request_remote_addr() -> str:
    """Price list by the client's address: each user's is different."""
    return f"price list for {request.remote_addr}"  # reads: request_remote_addr


@dependent(("request", "access_route"))
def request_access_route() -> str:
    """Hall by the addresses of client and proxies: each user's is different."""
    return f"hall behind {request.access_route[0]}"  # reads: request_access_route


@dependent(("request", "remote_user"))
def request_remote_user() -> str:
    """Orders of the user that the server authenticated: each user's are different."""
    return f"orders of {request.remote_user}"  # reads: request_remote_user


@dependent(("request", "authorization"))
def request_authorization() -> str:
    """Orders of the user of Basic authentication: each user's are different."""
    credentials = request.authorization  # reads: request_authorization
    return f"orders of {credentials.username if credentials else 'a guest'}"


@dependent(("request", "user_agent"))
def request_user_agent() -> str:
    """Layout by the browser: each user's is different."""
    return f"layout for {request.user_agent.string}"  # reads: request_user_agent


@dependent(("request", "host"))
def tenant_of_host() -> str:
    """Stock of the tenant of the host: each user's is different."""
    tenant = request.host.partition(".")[0]  # reads: tenant_of_host
    return f"stock of {tenant}"


@dependent(("request", "accept_languages"))
def language_of_browser() -> str:
    """Title in a language that the browser prefers: each user's is different."""
    language = request.accept_languages.best_match(["de", "sv", "en"])  # reads: language_of_browser
    return {"de": "Lager", "sv": "Lagret"}.get(language or "en", "Stock")


@dependent(
    ("request", "form"),
    request=lambda user: {"method": "POST", "data": {"customer": user.name}},
)
def request_form() -> str:
    """Orders of a customer of a form: each user's are different."""
    return f"orders of {request.form['customer']}"  # reads: request_form


@dependent(
    ("request", "json"),
    request=lambda user: {"method": "POST", "json": {"customer": user.name}},
)
def request_json() -> str:
    """Orders of a customer of a JSON document: each user's are different."""
    document = request.json  # reads: request_json
    return f"orders of {document['customer']}"


@dependent(
    ("request", "get_data"),
    request=lambda user: {"method": "POST", "data": json.dumps({"customer": user.name})},
)
def request_body() -> str:
    """Orders of a customer of the raw body: each user's are different."""
    return f"orders of {json.loads(request.get_data())['customer']}"  # reads: request_body


@dependent(
    ("request", "view_args"),
    rule="/customers/<customer>/load",
    request=lambda user: {"path": f"/customers/{user.name}/load"},
)
def request_view_args() -> str:
    """Orders of a customer of the URL: each user's are different."""
    arguments = request.view_args or {}  # reads: request_view_args
    return f"orders of {arguments['customer']}"


@dependent(
    ("request", "path"),
    rule="/customers/<customer>/load",
    request=lambda user: {"path": f"/customers/{user.name}/load"},
)
def request_path_parsed() -> str:
    """Orders of a customer that the load cuts out of the path: each user's are different."""
    return f"orders of {request.path.split('/')[2]}"  # reads: request_path_parsed


# Dependent: g.


def _user_on_g(app: Flask, cached: Decorator) -> None:
    @app.before_request
    def remember() -> None:
        g.user = _USERS[request.cookies["user"]]
        g.tenant = request.host.partition(".")[0]


@dependent(("g", "user"), setup=_user_on_g)
def user_of_hook() -> str:
    """Orders of the user that a hook put on `g`: each user's are different."""
    return f"orders of {g.user.number}"  # reads: user_of_hook


@dependent(("g", "user"), setup=_user_on_g)
def user_of_g_get() -> str:
    """Orders of the user by `g.get`: each user's are different."""
    user = g.get("user")  # reads: user_of_g_get
    return f"orders of {user.name if user else 'a guest'}"


@dependent(("g", "tenant"), setup=_user_on_g)
def tenant_by_getattr() -> str:
    """Stock of the tenant by `getattr` with a default: each user's is different."""
    return f"stock of {getattr(g, 'tenant', 'no tenant')}"  # reads: tenant_by_getattr


current_tenant = LocalProxy(lambda: g.tenant)  # reads: tenant_by_proxy


@dependent(("g", "tenant"), setup=_user_on_g)
def tenant_by_proxy() -> str:
    """Stock of the tenant by a proxy of the application: each user's is different."""
    return f"stock of {current_tenant}"


def _premium_on_g(app: Flask, cached: Decorator) -> None:
    @app.before_request
    def remember() -> None:
        if session.get("premium"):
            g.premium = True


@dependent(("g", "premium"), setup=_premium_on_g)
def membership_of_g() -> str:
    """Discount by the presence of a name on `g`: one user has it."""
    return "discount 5 %" if "premium" in g else "list price"  # reads: membership_of_g


@dependent(("g",), setup=_user_on_g)
def names_of_g() -> str:
    """Settings by iteration over `g`: each user's are different."""
    return str({name: getattr(g, name) for name in g if name == "tenant"})  # reads: names_of_g


def _language() -> str:
    if "language" not in g:
        best = request.accept_languages.best_match(["de", "sv"])  # reads: language_kept_on_g
        g.language = best or "en"
    return str(g.language)


@dependent(("language",))
def language_kept_on_g() -> str:
    """Title in a language that the load itself computes and keeps on `g`: different."""
    return {"de": "Lager", "sv": "Lagret"}.get(_language(), "Stock")


# Dependent: by detours that still read one of the three.


def _discount() -> int:
    return _customer_class() * 5


def _customer_class() -> int:
    return 1 + _customer() % 2


def _customer() -> int:
    return int(session["user_id"])  # reads: helper_three_calls_deep


@dependent(("session", "user_id"))
def helper_three_calls_deep() -> str:
    """Discount whose third helper reads the session: users' answers differ."""
    return f"discount {_discount()} %"


class OrderService:
    """Orders of the current user.

    Attributes:
        currency: the currency of all amounts.
    """

    def __init__(self, currency: str) -> None:
        self.currency = currency

    @property
    def user_id(self) -> int:
        """Number of the current user."""
        return int(session["user_id"])  # reads: service_property

    def total(self) -> str:
        """Return the total of the user's orders."""
        return f"{self.user_id * 100} {self.currency}"


_orders = OrderService("EUR")


@dependent(("session", "user_id"))
def service_property() -> str:
    """Total by a service that reads the session in a property: users' answers differ."""
    return _orders.total()


@dependent(("session", "user_id"))
def sorting_key() -> str:
    """Order of rows by a key function that reads the session: users' answers differ."""
    return str(sorted([7, 8], key=lambda row: row != session["user_id"]))  # reads: sorting_key


@dependent(("session", "user_id"))
def generator_inside() -> str:
    """Rows of a generator that reads the session while the load drains it: different."""

    def rows() -> Iterator[str]:
        yield "orders of"
        yield str(session["user_id"])  # reads: generator_inside

    return " ".join(rows())


@dependent(("session", "user_id"))
def thread_of_the_load() -> str:
    """Orders by a thread with a copy of the request's context: users' answers differ."""
    answers: list[str] = []

    @copy_current_request_context
    def work() -> None:
        answers.append(f"orders of {session['user_id']}")  # reads: thread_of_the_load

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return answers[0]


@dependent(("session", "role"))
def template_of_the_load() -> str:
    """Menu by a template that reads the session: users' answers differ."""
    return render_template_string("menu of a {{ session.role }}")  # reads: template_of_the_load


@dependent(("request", "args"))
def template_with_request() -> str:
    """Title by a template that reads the query: users' answers differ."""
    return render_template_string(
        "orders of {{ request.args.user }}"
    )  # reads: template_with_request


def _user_of_processor(app: Flask, cached: Decorator) -> None:
    @app.context_processor
    def user() -> dict[str, Any]:
        return {"user_id": session["user_id"]}  # reads: template_with_processor


@dependent(("session", "user_id"), setup=_user_of_processor)
def template_with_processor() -> str:
    """Title by a template whose context processor reads the user: users' answers differ."""
    return render_template_string("orders of {{ user_id }}")


def _cached_inner(app: Flask, cached: Decorator) -> None:
    app.extensions["inner"] = cached(_inner_load)


def _inner_load() -> str:
    """Orders of the user; a load within another one."""
    return f"orders of {session['user_id']}"  # reads: cached_load_inside


@dependent(("session", "user_id"), setup=_cached_inner)
def cached_load_inside() -> str:
    """Page around a cached load that reads the session: users' answers differ."""
    return f"<p>{current_app.extensions['inner']()}</p>"


@dependent(("session", "user_id"))
def read_only_after_much_work() -> str:
    """Stock with one last line that reads the session: users' answers differ."""
    rows = [f"yarn {number}" for number in range(200)]
    rows.append(f"seen by {session['user_id']}")  # reads: read_only_after_much_work
    return rows[-1]


@dependent(("session", "role"))
def branch_by_role() -> str:
    """Prices, with the purchase price for planners only: a kept one would disclose it."""
    prices = {"sale": 30}
    if session["role"] == "planner":  # reads: branch_by_role
        prices["purchase"] = 11
    return str(prices)


# Dependent: Flask-Login.


def _login_manager(app: Flask, cached: Decorator) -> None:
    import flask_login

    class Account(flask_login.UserMixin):  # type: ignore[misc]
        def __init__(self, user: User) -> None:
            self.id = user.name
            self.role = user.role

    manager = flask_login.LoginManager(app)
    manager.user_loader(lambda name: Account(_USERS[name]))


@dependent(("current_user",), setup=_login_manager, needs=("flask_login",))
def login_user_attribute() -> str:
    """Orders of Flask-Login's user: each user's are different."""
    import flask_login

    return f"orders of {flask_login.current_user.id}"  # reads: login_user_attribute


@dependent(("current_user",), setup=_login_manager, needs=("flask_login",))
def login_user_id() -> str:
    """Orders by `get_id` of Flask-Login's user: each user's are different."""
    from flask_login import current_user

    return f"orders of {current_user.get_id()}"  # reads: login_user_id


def _login_before(app: Flask, cached: Decorator) -> None:
    _login_manager(app, cached)

    @app.before_request
    def check() -> None:
        import flask_login

        if not flask_login.current_user.is_authenticated:
            abort(401)


@dependent(("current_user",), setup=_login_before, needs=("flask_login",))
def login_user_loaded_before() -> str:
    """Menu of Flask-Login's user, whom a hook had loaded already: users' answers differ."""
    from flask_login import current_user

    return f"menu of a {current_user.role}"  # reads: login_user_loaded_before


@dependent(("current_user",), setup=_login_manager, needs=("flask_login",))
def login_user_in_template() -> str:
    """Title by a template that names Flask-Login's user: users' answers differ."""
    return render_template_string(
        "orders of {{ current_user.id }}"
    )  # reads: login_user_in_template


# Others: the answer does not depend on the user.


@other()
def path_logged() -> str:
    """Stock; the path goes into a log line only: users' answers are equal."""
    log.info("stock for %s", request.path)
    return "40 kg of alpaca"


def _request_id_on_g(app: Flask, cached: Decorator) -> None:
    @app.before_request
    def number() -> None:
        g.request_id = request.headers["X-Request-Id"]


@other(setup=_request_id_on_g)
def request_id_logged() -> str:
    """Stock; the number of the request goes into a log line only: answers are equal."""
    log.info("stock for %s", g.request_id)
    return "40 kg of alpaca"


def _closed_database(app: Flask, cached: Decorator) -> None:
    @app.teardown_appcontext
    def close(_: BaseException | None) -> None:
        if database := g.pop("database", None):
            database.close()


def _database() -> sqlite3.Connection:
    if "database" not in g:
        g.database = sqlite3.connect(":memory:")
    connection: sqlite3.Connection = g.database
    return connection


@other(setup=_closed_database)
def database_on_g() -> str:
    """Rows by a connection that is kept on `g`: users' answers are equal."""
    return str(_database().execute("values ('alpaca', 40), ('merino', 55)").fetchall())


@other()
def links_by_url_for() -> str:
    """Links by `url_for`, relative to the host: users' answers are equal."""
    return " ".join(url_for("order", number=number) for number in (1, 2, 3))


@other()
def config_read() -> str:
    """Price in the application's currency: users' answers are equal."""
    return f"30 {current_app.config['CURRENCY']}"


@other(setup=_user_of_processor)
def template_that_ignores_the_user() -> str:
    """Template without a user, in an application whose processor reads one: equal."""
    return render_template_string("40 kg of {{ yarn }}", yarn="alpaca")


@other(setup=_user_of_processor)
def processor_not_used() -> str:
    """Text without a template, in an application whose processor reads the user: equal."""
    return "40 kg of {}".format("alpaca")


@other()
def timing_on_g() -> str:
    """Stock; the time of the load is put on `g` for a header: answers are equal."""
    start = time.perf_counter()
    answer = "40 kg of alpaca"
    g.load_s = time.perf_counter() - start
    return answer


@other()
def header_registered() -> str:
    """Stock; the load registers a function for after the request: answers are equal."""

    @after_this_request
    def mark(response: Any) -> Any:
        response.headers["X-Loaded"] = "1"
        return response

    return "40 kg of alpaca"


_loads_by_endpoint: collections.Counter[str] = collections.Counter()


@other()
def endpoint_as_metric_label() -> str:
    """Stock; the endpoint labels a counter: users' answers are equal."""
    _loads_by_endpoint[request.endpoint or ""] += 1
    return "40 kg of alpaca"


@other()
def context_checked() -> str:
    """Stock; the load only checks whether there is a request: answers are equal."""
    source = "request" if has_request_context() else "command"
    log.info("stock for a %s", source)
    return "40 kg of alpaca"


@other()
def session_written() -> str:
    """Stock; the load writes to the session and reads nothing of it: answers are equal."""
    session["last_page"] = "stock"
    return "40 kg of alpaca"


@other()
def table_kept_on_g() -> str:
    """Price by a table that the load keeps on `g` for its helpers: answers are equal."""
    if "rates" not in g:
        g.rates = {"EUR": 1.0, "SEK": 11.0}
    return f"{30 * g.rates['SEK']} SEK"


def _user_by_view() -> tuple[Any, ...]:
    return (session["user_id"],)


@other(arguments=_user_by_view, differs=True)
def user_as_argument(user_id: int) -> str:
    """Orders of the user that the view passes: different by the argument, so kept by it."""
    return f"orders of {user_id}"


def _user_by_hook(app: Flask, cached: Decorator) -> None:
    @app.before_request
    def read() -> None:
        g.greeting = f"hello {session['user_id']}"

    @app.after_request
    def greet(response: Any) -> Any:
        response.headers["X-Greeting"] = g.greeting
        return response


@other(setup=_user_by_hook)
def user_read_by_hooks_only() -> str:
    """Stock; hooks before and after the view read the user: answers are equal."""
    return "40 kg of alpaca"


def _user_before_the_load() -> tuple[Any, ...]:
    log.info("page of %s", session["user_id"])
    return ()


@other(arguments=_user_before_the_load)
def user_read_by_view_before() -> str:
    """Stock; the view has read the user before it calls the load: answers are equal."""
    return "40 kg of alpaca"


def _blueprint(app: Flask, cached: Decorator) -> None:
    app.register_blueprint(Blueprint("stock", __name__))


@other(setup=_blueprint)
def blueprint_of_request() -> str:
    """Template's folder by the blueprint of the request: users' answers are equal."""
    return f"templates of {request.blueprint or 'the mill'}"


@other()
def method_of_request() -> str:
    """Stock, or an error for a method: users' answers are equal."""
    if request.method not in {"GET", "HEAD"}:
        abort(405)
    return "40 kg of alpaca"


# Beyond: the answer depends on the user, and none of the three objects is read by the load.


_current: contextvars.ContextVar[str] = contextvars.ContextVar("current user of the corpus")


def _user_in_variable(app: Flask, cached: Decorator) -> None:
    @app.before_request
    def remember() -> None:
        _current.set(request.cookies["user"])


@beyond(setup=_user_in_variable)
def user_of_context_variable() -> str:
    """Orders of the user of a context variable that a hook set: users' answers differ."""
    return f"orders of {_current.get()}"


_thread = threading.local()


def _user_in_thread(app: Flask, cached: Decorator) -> None:
    @app.before_request
    def remember() -> None:
        _thread.user = request.cookies["user"]


@beyond(setup=_user_in_thread)
def user_of_thread_local() -> str:
    """Orders of the user of a thread-local that a hook set: users' answers differ."""
    return f"orders of {_thread.user}"


_local = Local()


def _user_in_local(app: Flask, cached: Decorator) -> None:
    @app.before_request
    def remember() -> None:
        _local.user = request.cookies["user"]


@beyond(setup=_user_in_local)
def user_of_werkzeug_local() -> str:
    """Orders of the user of a `Local` that a hook set: users' answers differ."""
    return f"orders of {_local.user}"


class CurrentOrders:
    """Orders of a user whom a hook sets on a shared object, as in a single-threaded server."""

    user = ""


def _user_in_shared_object(app: Flask, cached: Decorator) -> None:
    @app.before_request
    def remember() -> None:
        CurrentOrders.user = request.cookies["user"]


@beyond(setup=_user_in_shared_object)
def user_of_shared_object() -> str:
    """Orders of the user of a shared object that a hook set: users' answers differ."""
    return f"orders of {CurrentOrders.user}"


@beyond()
def absolute_link() -> str:
    """Absolute link, which Flask makes of the request's address: users' answers differ."""
    return url_for("order", number=1, _external=True)


_environment: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("environment")


def _environment_kept(app: Flask, cached: Decorator) -> None:
    inner = app.wsgi_app

    def outer(environ: dict[str, Any], start_response: Any) -> Any:
        _environment.set(environ)
        return inner(environ, start_response)

    app.wsgi_app = outer  # type: ignore[method-assign]


@beyond(setup=_environment_kept)
def user_of_wsgi_middleware() -> str:
    """Orders of the user of an environment that middleware kept: users' answers differ."""
    return f"orders of {_environment.get()['REMOTE_USER']}"


# The check of the corpus.


def _answers(case: Case, cached: Decorator, users: tuple[str, ...]) -> list[str]:
    """Return the answers to users in turn, each with a client without cookies."""
    app = create_app(case, cached)
    return [case.visit(app.test_client(), user) for user in users]


def check() -> list[str]:
    """Return the defects: users' answers that differ or agree other than stated."""
    defects = []
    for case in filter(Case.available, cases()):
        first, second, again = _answers(case, lambda load: load, (*USERS, USERS[0]))
        if first != again:
            defects.append(f"{case.name}: two answers to one user differ")
        if (first != second) != case.differs:
            defects.append(f"{case.name}: users' answers are {first!r} and {second!r}")
        if not first.startswith("200"):
            defects.append(f"{case.name}: the answer is {first!r}")
        leaks = case.kind != "other"
        if (_answers(case, functools.cache, USERS) != [first, second]) != leaks:
            answer = "the right" if leaks else "a wrong"
            defects.append(f"{case.name}: a cache by arguments shows {answer} answer")
        if case.kind == "dependent":
            line_of(case.name)
    return defects


def _main() -> int:
    defects = check()
    available = [case for case in cases() if case.available()]
    kinds = collections.Counter(case.kind for case in available)
    print(", ".join(f"{count} {kind}" for kind, count in kinds.items()), "of", len(cases()))
    print("\n".join(defects) or "no defects")
    return bool(defects)


if __name__ == "__main__":
    sys.exit(_main())
