"""Settings of the demo: every `DEMO_` key, read once into a frozen record.

A key is taken from the mapping given to `create_app`, else from the environment, else from
the default. `KNITPERF_` variables are not ours: they are handed on under their full names.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TEXT_KEYS = frozenset({"KNITPERF_ACCESS_TOKEN", "KNITPERF_STATE_DIR", "KNITPERF_RELEASE"})
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off", "none"})


class DemoError(Exception):
    """Something the demo needs is missing or wrong; the message is one sentence for a person."""


@dataclass(frozen=True)
class Settings:
    """The demo's own switches.

    Attributes:
        data: folder of the generated tables.
        seed: moves the plants and the data.
        scale: rows of the tables, 1 = the mill's sizes.
        fixed: True repairs every planted problem, with the same answers.
        bare: True leaves the extension out.
        sleep_factor: multiplies every planted sleep (tests shorten them).
        stuck_s: seconds that the stuck report blocks.
        database_url: a PostgreSQL server that holds the database, instead of a SQLite file.
        pool_size: connections to it which one process keeps, 0 for the usual number.
    """

    data: Path
    seed: int = 0
    scale: float = 1.0
    fixed: bool = False
    bare: bool = False
    sleep_factor: float = 1.0
    stuck_s: float = 120.0
    database_url: str = ""
    pool_size: int = 0

    @classmethod
    def read(
        cls, config: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
    ) -> Settings:
        """Reads the settings.

        Args:
            config: values that win over the environment, by their `DEMO_` names.
            environ: the environment; the process's own when None.

        Raises:
            DemoError: a value cannot be understood.
        """
        values: dict[str, Any] = dict(os.environ if environ is None else environ)
        values.update(config or {})
        seed = int(_number(values, "DEMO_SEED", 0))
        scale = _number(values, "DEMO_SCALE", 1.0)
        if scale <= 0:
            raise DemoError(f"DEMO_SCALE is {scale:g}; it must be above 0, for example 1.")
        data = values.get("DEMO_DATA") or default_folder(seed, scale)
        return cls(
            data=Path(data),
            seed=seed,
            scale=scale,
            fixed=_switch(values, "DEMO_FIXED"),
            bare=_switch(values, "DEMO_BARE"),
            sleep_factor=_number(values, "DEMO_SLEEP_FACTOR", 1.0),
            stuck_s=_number(values, "DEMO_STUCK_S", 120.0),
            database_url=_database(values.get("DEMO_DATABASE_URL")),
            pool_size=int(_number(values, "DEMO_POOL_SIZE", 0)),
        )


def home() -> Path:
    """The demo's folder for this user, under the system's temporary directory."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "anyone"
    return Path(tempfile.gettempdir()) / f"knitperf-demo-{re.sub(r'[^A-Za-z0-9]+', '-', user)}"


def default_folder(seed: int, scale: float) -> Path:
    """Folder of the tables of one seed and scale when `DEMO_DATA` is not set."""
    return home() / f"data-seed{seed}-scale{scale:g}"


def knitperf_config(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The `KNITPERF_` variables under their full names, values read as JSON where they are JSON.

    Tokens, folders and release names stay text: a release "1.10" is not the number 1.1.
    """
    values: dict[str, Any] = {}
    for key, text in (os.environ if environ is None else environ).items():
        if not key.startswith("KNITPERF_"):
            continue
        values[key] = text
        if key not in _TEXT_KEYS:
            with contextlib.suppress(ValueError):  # else plain text, as it came
                values[key] = json.loads(text)
    return values


def _database(url: Any) -> str:
    text = "" if url is None else str(url)
    if text and not text.startswith(("postgresql://", "postgres://")):
        raise DemoError("DEMO_DATABASE_URL must begin with postgresql://; leave it out for SQLite.")
    return text


def _number(values: Mapping[str, Any], key: str, default: float) -> float:
    value = values.get(key)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DemoError(f"{key} is {value!r}; it must be a number.") from None
    if not math.isfinite(number):
        raise DemoError(f"{key} is {value!r}; it must be a finite number.")
    return number


def _switch(values: Mapping[str, Any], key: str) -> bool:
    word = str(values.get(key, "")).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise DemoError(f"{key} is {values[key]!r}; it must be 1 or 0.")
