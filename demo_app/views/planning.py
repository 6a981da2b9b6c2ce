"""Views of the planners: forecasts, explosions, requirements, cached figures.

The slow work is in the services. Planted here: a cache that writes another key than it reads.
"""

from __future__ import annotations

from typing import Any

from flask import request

from demo_app.context import demo

Answer = dict[str, Any]


def workbooks() -> Answer:
    """Fabric by month."""
    return demo().services.forecasting.fabric_forecast()


def reread() -> Answer:
    """Machines that suit the next orders."""
    return demo().services.capacity.machine_suggestions()


def explosion() -> Answer:
    """Bills of material, exploded."""
    return demo().services.requirements.explosion(demo().plan.sizes.styles)


def service_loop() -> Answer:
    """The seed's service method that loops over the bill of materials."""
    services, figures = demo().services, demo().plan.sizes
    if figures.loop_service == 1:
        return services.inventory.coverage(figures.styles)
    if figures.loop_service == 2:
        return services.capacity.machine_load(figures.styles)
    return services.requirements.requirements(figures.styles)


def good_cache() -> Answer:
    """The management's figures, from the cache but for the first time."""
    cache = demo().kpis
    with cache.lock:
        known = cache.store.get("kpis")
    if known is None:
        known = demo().services.pipeline.kpis()
        with cache.lock:
            cache.store["kpis"] = known
    return {"kpis": known}


def key_mismatch() -> Answer:
    """Yarns that are short, for one scope."""
    cache = demo().intelligence
    scope = request.args.get("scope", default=0, type=int)
    read, written = _keys(scope)
    with cache.lock:
        known = cache.store.get(read)
    if known is None:
        known = demo().services.inventory.intelligence(scope)
        with cache.lock:
            cache.store[written] = known  # plant: key_mismatch
    return {"intelligence": known}


def _keys(scope: int) -> tuple[Any, Any]:
    """The key that is read and the key that is written."""
    read, written = (
        (f"yarn:{scope}", f"yarn:{scope}:lbs"),
        (("yarn", scope), ("yarn", str(scope))),
        (f"intelligence/{scope}", f"INTELLIGENCE/{scope}"),
    )[demo().plan.sizes.mismatch]
    return read, read if demo().fixed else written


def weekly() -> Answer:
    """Yarn demand of one week."""
    week = request.args.get("week", default=1, type=int)
    return demo().services.forecasting.weekly_demand(week)
