"""The demo's data, written once per test session, and applications that need no extension."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flask import Flask

from demo_app import create_app
from demo_app.mill import generate

MakeApp = Callable[..., Flask]
SMALL = 0.02


@pytest.fixture(scope="session")
def mill_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of seed 0 at scale 1."""
    return generate(tmp_path_factory.mktemp("mill") / "full", 1.0, 0)


@pytest.fixture(scope="session")
def read(mill_folder: Path) -> Callable[[str], pd.DataFrame]:
    """Reads a table of the full mill as pandas does by default."""
    known: dict[str, pd.DataFrame] = {}

    def frame(name: str) -> pd.DataFrame:
        if name not in known:
            path = mill_folder / f"{name}.csv"
            workbook = mill_folder / f"{name}.xlsx"
            known[name] = pd.read_csv(path) if path.exists() else pd.read_excel(workbook)
        return known[name]

    return frame


@pytest.fixture(scope="session")
def make_app(tmp_path_factory: pytest.TempPathFactory) -> MakeApp:
    """Makes bare applications on small data, with planted sleeps left out."""
    base = tmp_path_factory.mktemp("small")

    def make(seed: int = 0, fixed: bool = False, **config: Any) -> Flask:
        return create_app(
            {
                "DEMO_BARE": "1",
                "DEMO_DATA": str(base / f"seed{seed}"),
                "DEMO_SCALE": SMALL,
                "DEMO_SEED": seed,
                "DEMO_FIXED": int(fixed),
                "DEMO_SLEEP_FACTOR": 0,
                **config,
            }
        )

    return make
