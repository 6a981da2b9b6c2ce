"""Twenty endpoints as an ERP on pandas has them, healthy or with a leak in one of them.

They allocate the way such an application does: frames that are grouped, filtered and joined, JSON of
a few KB to 100 KB, caches that fill up and stay, workbooks cached until they change, cycles that the
collector frees, a buffer that is emptied now and then. All of that is full after two thousand requests
to a worker; until then it grows like a leak, and no detector could distinguish the two. ``BENCH_LEAK``
in the configuration names the leaking endpoint, ``BENCH_LEAK_BYTES`` the bytes that each of its requests
retains.
"""

from __future__ import annotations

import functools
import io
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from flask import Flask, request

from .apps import configured

_LEAKED: list[bytes] = []
_OBJECT_BYTES = 33
"""Size of an empty ``bytes`` object."""

Views = dict[str, Callable[[], Any]]


def served() -> Flask:
    """Return the application, configured by ``BENCH_CONFIG``."""
    app = configured("mill")
    leak, size = app.config.pop("BENCH_LEAK", None), app.config.pop("BENCH_LEAK_BYTES", 2048)
    bare = app.config.pop("BENCH_BARE", False)
    for name, view in views().items():
        app.add_url_rule(f"/{name}", name, _leaking(view, size) if name == leak else view)
    if not bare:
        from flask_knitperf import KnitPerf

        KnitPerf(app)
    return app


def _leaking(view: Callable[[], Any], size: int) -> Callable[[], Any]:
    @functools.wraps(view)
    def leaks() -> Any:
        _LEAKED.append(os.urandom(size - _OBJECT_BYTES))
        return view()

    return leaks


def _number(below: int) -> int:
    return request.args.get("n", 0, type=int) % below


def _frames() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(5)
    yarn = pd.DataFrame({
        "yarn": np.arange(1_200), "pounds": rng.normal(500, 200, 1_200).round(1),
        "supplier": [f"S{n:03d}" for n in rng.integers(0, 128, 1_200)],
        "colour": [f"colour {n}" for n in rng.integers(0, 329, 1_200)],
    })  # fmt: skip
    bom = pd.DataFrame({
        "style": [f"{n}/1A" for n in rng.integers(0, 900, 6_000)],
        "yarn": rng.integers(0, 1_200, 6_000), "share": rng.random(6_000).round(2),
    })  # fmt: skip
    return {"yarn": yarn, "bom": bom}


def views() -> Views:
    """Return the views by name, each set with separate frames and caches."""
    by_name: Views = {}
    frames = _frames()
    _add_tables(by_name, frames["yarn"], frames["bom"])
    _add_caches(by_name, frames["bom"])
    _add_plain(by_name)
    return by_name


def _add_tables(views: Views, yarn: pd.DataFrame, bom: pd.DataFrame) -> None:
    def by_supplier() -> Any:
        return yarn.groupby("supplier")["pounds"].sum().round(1).head(20).to_dict()

    def low_stock() -> Any:
        few = yarn[yarn["pounds"] < 100 + _number(300)]
        return {"rows": len(few), "pounds": float(few["pounds"].sum())}

    def explode() -> Any:
        part = bom[bom["style"] == f"{_number(900)}/1A"]
        return part.merge(yarn, on="yarn").to_dict("records")

    def colours() -> Any:
        return yarn["colour"].value_counts().head(10).to_dict()

    def export() -> Any:
        return yarn.head(400).to_csv(index=False), {"Content-Type": "text/csv"}

    def listing() -> Any:
        return yarn.to_json(orient="records"), {"Content-Type": "application/json"}

    def imported() -> Any:
        text = "yarn,pounds\n" + "\n".join(f"{n},{n * 1.5}" for n in range(50 + _number(50)))
        return {"pounds": float(pd.read_csv(io.StringIO(text))["pounds"].sum())}

    views |= {
        "by_supplier": by_supplier, "low_stock": low_stock, "explode": explode, "colours": colours,
        "export": export, "listing": listing, "imported": imported,
    }  # fmt: skip


def _add_caches(views: Views, bom: pd.DataFrame) -> None:
    @functools.lru_cache(maxsize=60)
    def style(number: int) -> bytes:
        return bom[bom["style"] == f"{number}/1A"].to_json().encode()

    answers: OrderedDict[int, str] = OrderedDict()
    recent: deque[bytes] = deque(maxlen=100)
    batch: list[bytes] = []

    def cached() -> Any:
        return style(_number(900)), {"Content-Type": "application/json"}

    def quotes() -> Any:
        number = _number(5_000)
        answers[number] = f"quote {number} " * 20
        if len(answers) > 300:
            answers.popitem(last=False)
        return {"quote": answers[number][:40]}

    def activity() -> Any:
        recent.append(os.urandom(1_000))
        return {"kept": len(recent)}

    def outbox() -> Any:
        batch.append(os.urandom(3_000))
        if len(batch) >= 40:
            batch.clear()
        return {"waiting": len(batch)}

    def lazily() -> Any:
        import decimal
        import fractions

        return {"price": str(decimal.Decimal(_number(100)) + decimal.Decimal("0.25")),
                "share": str(fractions.Fraction(_number(100), 7))}  # fmt: skip

    views |= {
        "cached": cached, "quotes": quotes, "activity": activity, "outbox": outbox, "lazily": lazily,
    }  # fmt: skip


def _add_plain(views: Views) -> None:
    def seats() -> Any:
        last: list[Any] | None = None
        for _ in range(300):  # cycles, which the collector frees
            seat: list[Any] = [last, None]
            if last is not None:
                last[1] = seat
            last = seat
        return {"seats": 300}

    def tree() -> Any:
        root: dict[str, Any] = {"name": "style"}
        root["parts"] = [{"of": root, "number": n} for n in range(40)]
        return {"parts": len(root["parts"])}

    def large() -> Any:
        return "x" * 100_000

    def upload() -> Any:
        return {"bytes": len(request.get_data())}

    views |= {
        "seats": seats, "tree": tree, "large": large, "upload": upload,
        "health": lambda: {"ok": True}, "ping": lambda: "pong", "version": lambda: {"version": 7},
        "notes": lambda: {"note": _number(1_000)},
    }  # fmt: skip
