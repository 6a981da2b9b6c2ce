"""Traffic, comparison and the command line, against a real server in this process."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from werkzeug.serving import make_server

from demo_app import compare, serve
from demo_app.__main__ import main
from demo_app.plants import plan
from demo_app.roles import ROLES
from demo_app.settings import DemoError
from demo_app.traffic import FULL, Answer, Request, drive, quantile, requests, table
from tests.demo.conftest import MakeApp


@pytest.fixture
def address(make_app: MakeApp) -> Iterator[str]:
    """A small sick demo, served by threads."""
    server = make_server("127.0.0.1", 0, make_app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_same_seed_gives_the_same_requests() -> None:
    assert requests(plan(0), 300, 5) == requests(plan(0), 300, 5)
    assert requests(plan(0), 300, 5) != requests(plan(0), 300, 6)


def test_the_full_mix_gives_each_endpoint_enough_requests_for_a_verdict() -> None:
    listed = requests(plan(0), FULL)
    counts = Counter(request.kind for request in listed)
    assert len(listed) == FULL
    for role in ROLES:
        slow = role.kind in ("workbooks", "reread", "explosion", "service_loop", "slow_sql")
        least = 12 if slow or role.kind in ("stream", "download") else 40
        assert counts[role.kind] >= least or role.kind == "stuck"


def test_ordinary_traffic_never_calls_the_stuck_report() -> None:
    assert not [r for r in requests(plan(0), FULL) if r.kind == "stuck"]
    assert len([r for r in requests(plan(0), 50, stuck=True) if r.kind == "stuck"]) == 1


def test_every_prefix_of_the_list_has_the_mixs_proportions() -> None:
    half = Counter(request.kind for request in requests(plan(0), FULL)[: FULL // 2])
    for role in ROLES:
        assert half[role.kind] == pytest.approx(role.weight / 2, abs=2)


def test_traffic_may_be_kept_to_some_roles() -> None:
    kinds = {request.kind for request in requests(plan(0), 40, only=["workbooks", "ping"])}
    assert kinds == {"workbooks", "ping"}
    with pytest.raises(DemoError, match="not a role"):
        requests(plan(0), 40, only=["worbooks"])


@pytest.mark.slow
def test_driving_the_list_answers_every_request_in_its_order(address: str) -> None:
    listed = requests(plan(0), 90, least=2)
    answers = drive(address, listed, clients=3)
    assert [answer.request for answer in answers] == listed
    bad = [a for a in answers if a.status not in (200, 201, 301, 404, 500)]
    assert not bad
    assert {a.request.kind for a in answers if a.status == 500} <= {"flaky"}
    assert {a.request.kind for a in answers if a.status == 404} <= {"roll"}


def test_a_lost_connection_is_counted_and_traffic_goes_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def hang_up() -> None:
            while not stop.is_set():
                listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        listed = [Request("health", "health", "GET", "/health")] * 3
        port = listener.getsockname()[1]
        answers = drive(f"http://127.0.0.1:{port}", listed, clients=1)
        stop.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()
    assert [answer.status for answer in answers] == [0, 0, 0]


def test_an_address_where_nothing_answers_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = serve.free_port()
    assert main(["traffic", "--url", f"http://127.0.0.1:{port}", "--requests", "1"]) == 2
    assert capsys.readouterr().err.startswith("Nothing answers at")


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(DemoError, match="in use"):
        serve.free_port(taken.getsockname()[1])


@pytest.mark.parametrize("seed", [0, 2])
def test_the_traffic_table_fits_80_columns(seed: int) -> None:
    answers = [Answer(r, 200, 12.3456, "") for r in requests(plan(seed), 200)]
    assert max(map(len, table(answers).splitlines())) <= 80


def _comparison(change: str = "") -> compare.Comparison:
    listed = requests(plan(0), 200, least=2)
    offset = plan(0).sizes.flaky_offset
    failing = f"n={offset}"
    sick = [
        Answer(r, 500 if r.path.endswith(failing) and r.kind == "flaky" else 200, 1.5, "a")
        for r in listed
    ]
    fixed = [Answer(r, 200, 0.01, "b" if r.kind == change else "a") for r in listed]
    return compare.Comparison(plan(0), sick, fixed)


def test_declared_differences_are_counted_and_no_fault() -> None:
    comparison = _comparison()
    assert comparison.differences() == []
    assert comparison.declared() >= 1


def test_a_differing_body_is_reported() -> None:
    differences = _comparison("health").differences()
    assert differences
    assert all("/health" in line for line in differences)


def test_a_good_quote_with_another_body_is_no_declared_difference() -> None:
    assert _comparison("flaky").differences()


def test_the_comparison_fits_80_columns_and_has_every_problem_of_the_mix() -> None:
    text = _comparison().table()
    assert max(map(len, text.splitlines())) <= 80
    for plant in plan(0).plants:
        if plant.problem and plant.kind != "stuck":
            assert plant.endpoint in text


def test_the_plants_command_prints_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plants", "--seed", "4"]) == 0
    assert plan(4).plant("workbooks").endpoint in capsys.readouterr().out


def test_quantiles_are_nearest_rank() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile(list(map(float, range(1, 101))), 0.95) == 95.0
    assert quantile([], 0.5) == 0.0
