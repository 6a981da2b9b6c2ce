"""Functions that the hosts of a test cache: they are the same code, so hosts share their values."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd

LOADS: list[Any] = []
LOAD_S = 0.006


def bom(style: str) -> dict[str, Any]:
    LOADS.append(style)
    time.sleep(LOAD_S)
    return {"style": style, "load": len(LOADS)}


def frame(rows: int) -> pd.DataFrame:
    LOADS.append(rows)
    time.sleep(LOAD_S)
    return pd.DataFrame({"row": range(rows), "text": ["knit"] * rows})


def fast(style: str) -> str:
    LOADS.append(style)
    return style


def nothing(style: str) -> None:
    LOADS.append(style)
    time.sleep(LOAD_S)


class Order:
    """A class of the application."""


def order(number: int) -> Order:
    LOADS.append(number)
    time.sleep(LOAD_S)
    return Order()


def of_file(path: str) -> str:
    LOADS.append(path)
    time.sleep(LOAD_S)
    with open(path) as file:
        return file.read()


def failing(style: str) -> str:
    LOADS.append(style)
    time.sleep(LOAD_S)
    raise ValueError(style)


NUMBERS = {"n": 0}


def number(name: str) -> int:
    value = NUMBERS[name]
    time.sleep(LOAD_S)
    return value
