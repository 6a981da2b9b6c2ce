"""The views by role; which address each one gets is the plan's affair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from demo_app.views import orders, planning, sales, stock

View = Callable[..., Any]

VIEWS: dict[str, View] = {
    "workbooks": planning.workbooks,
    "reread": planning.reread,
    "explosion": planning.explosion,
    "service_loop": planning.service_loop,
    "key_mismatch": planning.key_mismatch,
    "good_cache": planning.good_cache,
    "weekly": planning.weekly,
    "n_plus_one": orders.n_plus_one,
    "slow_sql": orders.slow_sql,
    "create": orders.create,
    "cancel": orders.cancel,
    "large_json": stock.large_json,
    "stream": stock.stream,
    "leak": stock.leak,
    "cycles": stock.cycles,
    "redirect": stock.redirect,
    "stock": stock.stock,
    "search": stock.search,
    "suppliers": stock.suppliers,
    "roll": stock.roll,
    "download": sales.download,
    "early_hook": sales.tenant,
    "flaky": sales.flaky,
    "per_user": sales.per_user,
    "jitter": sales.jitter,
    "stuck": sales.stuck,
    "async": sales.async_,
    "ping": sales.ping,
    "health": sales.health,
    "tracking": sales.tracking,
}
