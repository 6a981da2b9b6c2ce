"""Views of the sales office and the small ones: quotes, schedules, reports, health.

Planted here: failures, jitter, an early hook, a request that outlives the server's patience, a cached
function that reads the user.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from flask import Response, current_app, g, request, send_file, session
from flask import redirect as moved
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from demo_app.context import demo, request_number

Answer = dict[str, Any] | tuple[dict[str, Any], int]

TERMINALS, TERMINAL_S = 50, 0.0005

_TENANTS: dict[str, dict[str, str]] = {}


class QuoteEngineError(RuntimeError):
    """The quote engine has lost its price list."""


def flaky() -> Answer:
    """A quote; every tenth request fails, unless fixed."""
    number, figures = request_number(), demo().plan.sizes
    if number % 10 == figures.flaky_offset and not demo().fixed:
        raise QuoteEngineError("price list not loaded")  # plant: flaky
    return {"quote": number, "cents_per_yard": 300 + number % 97}


def per_user() -> Answer:
    """The price board of the user, who signs in with the request; its list is cached."""
    session["user_id"] = request.args.get("user", default=1, type=int)
    return {"prices": demo().price_list()}


def price_list() -> list[dict[str, Any]]:
    """The user's prices; cached in `wiring`, with the user as its key only when fixed."""
    user = session["user_id"]  # plant: per_user
    return demo().services.inventory.prices(user % 7)


def jitter() -> Answer:
    """The machines' schedule; every twentieth request waits, unless fixed."""
    number, figures = request_number(), demo().plan.sizes
    if number % 20 == figures.jitter_offset and not demo().fixed:
        time.sleep(demo().seconds(figures.jitter_s))  # plant: jitter
    else:
        time.sleep(demo().seconds(figures.quick_ms / 1000))
    return {"schedule": number, "machines": [number % 45 + 1, (number + 7) % 45 + 1]}


def stuck() -> Answer:
    """A report that waits longer than any server's timeout, unless fixed."""
    if not demo().fixed:
        time.sleep(demo().settings.stuck_s)  # plant: stuck
    return {"report": "year end", "ready": True}


def download() -> Response:
    """The large report, as a file."""
    return send_file(
        demo().mill.folder / "report.csv", mimetype="text/csv", as_attachment=True, etag=False
    )


async def async_() -> Answer:
    """A quote that waits for another system without holding a thread's attention."""
    await asyncio.sleep(demo().seconds(0.03))
    return {"quote": "async", "cents_per_yard": 425}


def tracking() -> Answer:
    """Location of an order; the carrier takes 40 ms."""
    number = request_number()
    time.sleep(demo().seconds(0.04))
    return {"order": number, "carrier": "truck", "stops": number % 4}


def tenant() -> Answer:
    """The tenant's settings, about a millisecond of work."""
    checksum = sum(number * number for number in range(12_000))
    return {"tenant": g.tenant["tenant"], "units": g.tenant["units"], "checksum": checksum}


def read_tenant() -> None:
    """Early hook: reads the tenant for every request of its blueprint; once when fixed."""
    folder = str(demo().mill.folder)
    if demo().fixed and folder in _TENANTS:
        g.tenant = _TENANTS[folder]
        return
    time.sleep(demo().seconds(demo().plan.sizes.tenant_ms / 1000))  # plant: early_hook
    g.tenant = json.loads((demo().mill.folder / "tenant.json").read_text(encoding="utf-8"))
    _TENANTS[folder] = g.tenant


def move_legacy() -> BaseResponse | None:
    """Early hook: addresses of the old ERP are moved permanently."""
    prefix = demo().plan.places["redirect"].rule.partition("<")[0]
    if request.path.startswith(prefix):
        target = demo().plan.places["health"].url
        return moved(f"{target}?from={request.path.removeprefix(prefix)}", 301)
    return None


def ping() -> Answer:
    """Confirm that the process lives: trivial work, but every terminal's answer is a short wait.

    Each wait gives the interpreter away, so a busy neighbour in the same process is felt here.
    """
    for _ in range(TERMINALS):
        time.sleep(demo().seconds(TERMINAL_S))  # plant: ping
    return {"alive": True, "terminals": TERMINALS}


def health() -> Answer:
    """Confirm that the tables exist."""
    return {"status": "ok", "tables": int(demo().mill.path("bom").exists())}


def answer_error(error: Exception) -> Answer | HTTPException:
    """Unexpected errors become JSON with status 500; HTTP errors stay what they are."""
    if isinstance(error, HTTPException):
        return error
    if not isinstance(error, QuoteEngineError):
        current_app.logger.error("unexpected: %s", error, exc_info=error)
    return {"error": str(error)}, 500
