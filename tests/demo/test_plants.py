"""The plan: complete under every seed, and moved by it."""

from __future__ import annotations

import pytest

from demo_app.plants import SOURCE, describe, plan, source_lines
from demo_app.roles import ROLES
from demo_app.views import VIEWS

SEEDS = range(11)
# the specification's endpoints, by the words of its table
SPECIFIED = {
    "planning.fabric_forecast", "planning.machine_suggestions", "planning.bom_explosion",
    "planning.yarn_requirements", "sales.order_detail_list", "sales.customer_balance",
    "planning.yarn_intelligence", "planning.comprehensive_kpis", "stock.knit_orders",
    "stock.supplier_export", "sales.report_download", "legacy_path", "tenant.tenant_settings",
    "sales.flaky_quote", "stock.jittery_schedule", "live_ping", "stock.notes",
    "stock.session_churn", "sales.stuck_report", "sales.async_quote", "sales.price_board",
}  # fmt: skip
CAUSES = {
    "own_cpu", "waiting", "sql", "file_read", "cache", "gc", "gil_contention", "section",
    "early_hook", "unknown", "",
}  # fmt: skip


def test_seed_0_has_the_endpoints_of_the_specification() -> None:
    plan_ = plan(0)
    assert {plant.endpoint for plant in plan_.plants} == SPECIFIED
    assert {place.kind for place in plan_.healthy} >= {
        "health", "stock", "search", "create", "cancel",
    }  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_no_planted_endpoint_is_missing_and_no_two_share_a_name_or_address(seed: int) -> None:
    plan_ = plan(seed)
    assert len(plan_.plants) + len(plan_.healthy) == len(ROLES) == len(VIEWS)
    assert len({place.endpoint for place in plan_.places.values()}) == len(ROLES)
    assert len({(place.rule, place.method) for place in plan_.places.values()}) == len(ROLES)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_plant_names_its_line_cause_and_golden_sentence(seed: int) -> None:
    for plant in plan(seed).plants:
        assert plant.cause in CAUSES
        assert plant.golden.startswith(plant.place.title)
        assert "{" not in plant.golden
        assert bool(plant.verdicts) <= bool(plant.where), plant.kind


def test_a_plants_line_is_a_line_of_the_demos_source() -> None:
    for marker, places in source_lines().items():
        for place in places:
            path, _, number = place.rpartition(":")
            lines = (SOURCE.parent / path).read_text(encoding="utf-8").splitlines()
            assert lines[int(number) - 1].endswith(f"# plant: {marker}")


def test_the_seed_moves_names_lines_files_and_sizes() -> None:
    plans = [plan(seed) for seed in SEEDS]
    for kind in ("workbooks", "reread", "explosion", "service_loop"):
        assert len({plan_.plant(kind).endpoint for plan_ in plans}) >= 9
        assert len({plan_.plant(kind).where[0] for plan_ in plans}) >= 2
    assert len({plan_.sizes.workbooks for plan_ in plans}) >= 9
    assert len({plan_.sizes.hook for plan_ in plans}) >= 3
    assert len({plan_.sizes.ledger for plan_ in plans}) >= 3


def test_a_name_that_is_sick_under_one_seed_is_healthy_under_another() -> None:
    sick, healthy = set(), set()
    for seed in SEEDS:
        plan_ = plan(seed)
        sick |= {plant.place.function for plant in plan_.plants if plant.verdicts}
        healthy |= {place.function for place in plan_.healthy}
    assert len(sick & healthy) >= 5


def test_only_the_flaky_and_the_stuck_endpoint_may_answer_differently_when_fixed() -> None:
    assert {plant.kind for plant in plan(0).plants if plant.differs} == {"flaky", "stuck"}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_printed_plan_fits_80_columns(seed: int) -> None:
    assert [line for line in describe(plan(seed)).splitlines() if len(line) > 80] == []
