"""The plan: location and expected finding of every planted problem under one seed.

`plan(seed)` is pure; it is the answer key that verdicts are held against, and the application
is built from the same object, so that key and demo cannot drift apart. Source lines in it are
found by markers (`# plant: kind.variant`) in the demo's own source.
"""

from __future__ import annotations

import functools
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_app import names, sizes
from demo_app.roles import HEALTHY, PLANTED, ROLES, Role
from demo_app.settings import DemoError

SOURCE = Path(__file__).resolve().parent
FIRST_YARN, FIRST_ROLL = 10_007, 700_001
SAMPLE_ORDER = "W00000042"
# kinds with fixed names, which describe what they do
_OWN_NAMES = {"health": names.HEALTH, "ping": names.PING, "redirect": names.LEGACY}
_AT_HOME = frozenset({"health", "ping", "redirect", "early_hook"})


@dataclass(frozen=True)
class Place:
    """Location of one role.

    Attributes:
        kind: the role.
        function: name of the view function.
        blueprint: name of its blueprint, "" for the application.
        endpoint: the Flask endpoint, "blueprint.function".
        rule: URL rule.
        url: an address that answers.
        method: HTTP method.
        weight: requests in the full traffic mix.
    """

    kind: str
    function: str
    blueprint: str
    endpoint: str
    rule: str
    url: str
    method: str
    weight: int

    @property
    def title(self) -> str:
        """The name a person reads, "Fabric forecast"."""
        return self.function.replace("_", " ").capitalize()


@dataclass(frozen=True)
class Plant:
    """One planted problem (or deliberate non-problem) and the verdict that must come out.

    Attributes:
        place: where it is served.
        part: the part that must see it first (foundation, why, queries, caching, memory, all).
        sees: per part the verdict types that must come out.
        verdicts: all of them.
        allowed: types that may come out besides.
        beside: types that must come out where the forecast runs beside it in threads.
        cause: expected largest cause ("" when none), with `min_share` of wall time, 0..1.
        where: acceptable source lines, the best one first, "demo_app/services/x.py:41".
        function: the function that holds the line.
        golden: the sentence a user should read.
        problem: whether `DEMO_FIXED` repairs it.
        differs: why bodies may differ between sick and fixed, "" when they may not.
    """

    place: Place
    part: str
    sees: dict[str, tuple[str, ...]]
    verdicts: tuple[str, ...]
    allowed: tuple[str, ...]
    beside: tuple[str, ...]
    cause: str
    min_share: float
    where: tuple[str, ...]
    function: str
    golden: str
    problem: bool
    differs: str

    @property
    def kind(self) -> str:
        """The role's id."""
        return self.place.kind

    @property
    def endpoint(self) -> str:
        """The Flask endpoint as served."""
        return self.place.endpoint

    @property
    def url(self) -> str:
        """An address that answers."""
        return self.place.url


@dataclass(frozen=True)
class Plan:
    """Everything one seed decides.

    Attributes:
        seed: the seed.
        sizes: the moved figures.
        places: every endpoint, by role.
        plants: one row per plant.
        healthy: endpoints about which no verdict may ever come out.
    """

    seed: int
    sizes: sizes.Sizes
    places: dict[str, Place]
    plants: tuple[Plant, ...]
    healthy: tuple[Place, ...]

    def plant(self, kind: str) -> Plant:
        """The plant of one kind."""
        return next(plant for plant in self.plants if plant.kind == kind)

    def budgets(self) -> dict[str, dict[str, float]]:
        """`KNITPERF_ENDPOINTS` of the demo: milliseconds per endpoint."""
        return {
            self.places["stream"].endpoint: {"slow_ms": 10_000, "moderate_ms": 8_000},
            self.places["early_hook"].endpoint: {"slow_ms": 50, "moderate_ms": 5},
        }


def seed_from_env() -> int:
    """`DEMO_SEED`, 0 when unset.

    Raises:
        DemoError: it is not a whole number.
    """
    text = os.environ.get("DEMO_SEED", "0")
    try:
        return int(text)
    except ValueError:
        raise DemoError(f"DEMO_SEED is {text!r}; it must be a whole number.") from None


@functools.lru_cache(maxsize=32)
def plan(seed: int = 0) -> Plan:
    """The plan of one seed; seed 0 gives the names of the specification."""
    moved = sizes.sizes(seed)
    places = _named() if seed == 0 else _shuffled(random.Random(f"names {seed}"))
    plants = tuple(_plant(role, places, moved) for role in PLANTED)
    healthy = tuple(places[role.kind] for role in HEALTHY)
    return Plan(seed, moved, places, plants, healthy)


def _named() -> dict[str, Place]:
    return {role.kind: _place(role, role.name, role.blueprint) for role in ROLES}


def _shuffled(rng: random.Random) -> dict[str, Place]:
    """Every role under a drawn name in a drawn blueprint."""
    pool = list(names.ENDPOINTS)
    rng.shuffle(pool)
    blueprints = rng.sample(names.BLUEPRINTS, 3)
    tenant = rng.choice(names.TENANT_BLUEPRINTS)
    places = {}
    for role in ROLES:
        own = _OWN_NAMES.get(role.kind)
        name = rng.choice(own) if own else pool.pop()
        if role.kind in _AT_HOME:
            blueprint = tenant if role.blueprint else ""
        else:
            blueprint = rng.choice([*blueprints, ""] if rng.random() < 0.3 else blueprints)
        places[role.kind] = _place(role, name, blueprint)
    return places


def _place(role: Role, name: str, blueprint: str) -> Place:
    slug = name.replace("_", "-")
    if role.kind == "redirect":
        path = "/legacy" if name == "legacy_path" else f"/{slug}"
    elif role.kind == "health":
        path = f"/{slug}"
    else:
        path = f"/api/{blueprint}/{slug}" if blueprint else f"/api/{slug}"
    tail = role.example.format(yarn=FIRST_YARN, roll=FIRST_ROLL, order=SAMPLE_ORDER)
    endpoint = f"{blueprint}.{name}" if blueprint else name
    return Place(
        role.kind, name, blueprint, endpoint, path + role.suffix, path + tail, role.method,
        role.weight,
    )  # fmt: skip


def _plant(role: Role, places: dict[str, Place], moved: sizes.Sizes) -> Plant:
    place = places[role.kind]
    markers, function = _source(role.kind, place, moved)
    where = tuple(line for marker in markers for line in source_lines().get(marker, ()))
    table, column = moved.ledger
    fields: dict[str, Any] = dict(vars(moved))
    fields |= {
        "title": place.title,
        "where": where[0].rpartition("/")[2] if where else "",
        "function": function,
        "books": _word(len(moved.workbooks)),
        "pattern": sizes.EXPLOSIONS[moved.explosion][2],
        "table": table,
        "column": column,
        "mismatch": sizes.MISMATCHES[moved.mismatch],
        "leak_kb": moved.leak_bytes / 1024,
        "culprit": places["workbooks"].title.lower(),
    }
    return Plant(
        place=place, part=role.part, sees=dict(role.sees), verdicts=role.verdicts,
        allowed=role.allowed, beside=role.beside, cause=role.cause, min_share=role.min_share,
        where=where, function=function, golden=role.golden.format(**fields), problem=role.problem,
        differs=role.differs,
    )  # fmt: skip


def _source(kind: str, place: Place, moved: sizes.Sizes) -> tuple[list[str], str]:
    """The markers of a plant's lines, the best first, and the function that holds them."""
    if kind == "workbooks":
        marker, function = sizes.WORKBOOK_READERS[moved.reader]
    elif kind == "explosion":
        marker, function, _ = sizes.EXPLOSIONS[moved.explosion]
    elif kind == "service_loop":
        marker, function = sizes.LOOP_SERVICES[moved.loop_service]
    elif kind == "reread":
        marker, function = sizes.REREADERS[moved.rereader]
    elif kind == "stream":
        marker, function = "stream", "_pieces"
    elif kind == "early_hook":
        marker, function = "early_hook", moved.hook
    elif kind == "key_mismatch":
        marker, function = "key_mismatch", place.function
    else:
        marker, function = kind, place.function
    markers = [marker, *sorted(m for m in source_lines() if m.startswith(f"{marker}."))]
    return markers, function


@functools.lru_cache(maxsize=1)
def source_lines() -> dict[str, tuple[str, ...]]:
    """Marker → the lines of the demo's source that carry it, "demo_app/views/x.py:12"."""
    markers: dict[str, tuple[str, ...]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            _, mark, name = line.partition("# plant: ")
            if mark:
                place = f"demo_app/{path.relative_to(SOURCE).as_posix()}:{number}"
                markers[name.strip()] = (*markers.get(name.strip(), ()), place)
    return markers


def _word(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[count] if count < len(words) else str(count)


def describe(plan_: Plan) -> str:
    """The plan as text of at most 80 columns."""
    lines = [f"Plants of seed {plan_.seed}", ""]
    for plant in plan_.plants:
        types = ", ".join(plant.verdicts) or "no verdict"
        types += "".join(f" ({kind} beside the forecast)" for kind in plant.beside)
        lines.append(f"{plant.endpoint}  ({plant.kind})")
        lines.append(f"  {plant.place.method} {plant.url}")
        lines.append(f"  part {plant.part}: {types}" + (f"; {plant.cause}" * bool(plant.cause)))
        if plant.where:
            lines.append(f"  {plant.where[0]}")
            lines.append(f"  in {plant.function}")
        lines.extend(_wrapped(plant.golden))
    lines.extend(("", "Healthy, never a verdict"))
    for place in plan_.healthy:
        lines.extend((place.endpoint, f"  {place.method} {place.url}"))
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 78, initial_indent="  ", subsequent_indent="  ")
