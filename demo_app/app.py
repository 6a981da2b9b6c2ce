"""The application factory: the plan laid out as blueprints, views and hooks.

View functions are written once, by role, and get the name and address that the seed's plan
gives them, down to the code object's name, which is what a profiler sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType
from typing import Any

from flask import Blueprint, Flask

from demo_app.context import APPLICATION, KEY, Demo, close_connection
from demo_app.mill import Mill, generate
from demo_app.plants import Place, Plan, plan
from demo_app.services import ServiceManager
from demo_app.settings import Settings, knitperf_config
from demo_app.views import VIEWS, View, index, sales
from demo_app.wiring import make_perf, watch


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Makes the demo's application; generates its data first where that is missing.

    Args:
        config: Flask configuration; `DEMO_` keys in it win over the environment, and so do
            `KNITPERF_` keys.

    Raises:
        DemoError: a setting is wrong, or something the demo needs is missing.
    """
    options = dict(config or {})
    settings = Settings.read(options)
    laid = plan(settings.seed)
    app = Flask(APPLICATION)
    app.secret_key = "a demo has no secrets"
    if not settings.bare:
        app.config["KNITPERF_SAMPLER"] = True  # also on Python 3.11
    app.config.update(knitperf_config())
    app.config.update(options)
    budgets = app.config.get("KNITPERF_ENDPOINTS", {})
    if isinstance(budgets, dict):  # anything else is the extension's to refuse
        app.config["KNITPERF_ENDPOINTS"] = {**laid.budgets(), **budgets}
    folder = generate(settings.data, settings.scale, settings.seed)
    mill = Mill(folder, settings.fixed, settings.database_url, settings.pool_size)
    services = ServiceManager(mill, laid.sizes, settings.fixed)
    app.extensions[KEY] = Demo(settings, laid, mill, services, sales.price_list)
    if not settings.bare:
        watch(app, make_perf())
    _register(app, laid)
    mill.warm("yarn_inventory", "bom", "knit_orders", "finished_inventory", "styles")
    mill.warm("yarn_demand_by_week")
    return app


def _register(app: Flask, laid: Plan) -> None:
    """Register every role at the location that the plan gives."""
    app.before_request(sales.move_legacy)
    app.teardown_appcontext(close_connection)
    app.register_error_handler(Exception, sales.answer_error)
    app.add_url_rule("/", view_func=index.index)
    blueprints: dict[str, Blueprint] = {}
    for kind, place in laid.places.items():
        view = renamed(VIEWS[kind], place.function)
        if not place.blueprint:
            _rule(app, place, view)
            continue
        if place.blueprint not in blueprints:
            blueprints[place.blueprint] = Blueprint(place.blueprint, "demo_app")
        _rule(blueprints[place.blueprint], place, view)
    tenant = blueprints[laid.places["early_hook"].blueprint]
    tenant.before_request(renamed(sales.read_tenant, laid.sizes.hook))
    for blueprint in blueprints.values():
        app.register_blueprint(blueprint)


def _rule(target: Flask | Blueprint, place: Place, view: View) -> None:
    target.add_url_rule(place.rule, endpoint=place.function, view_func=view, methods=[place.method])


def renamed(view: View, name: str) -> View:
    """The same function under another name, also in its code object and so in every stack."""
    assert isinstance(view, FunctionType)
    code = view.__code__.replace(co_name=name, co_qualname=name)
    copy = FunctionType(code, view.__globals__, name, view.__defaults__, view.__closure__)
    copy.__doc__ = view.__doc__
    copy.__module__ = view.__module__
    return copy
