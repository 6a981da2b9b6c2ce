"""Under waitress, which also serves on Windows, and under Flask's own server with its reloader."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import REQUEST
from flask_knitperf.storage.runs import runs
from flask_knitperf.storage.state_dir import read

from .serving import WAITRESS, Server

FLASK = (
    sys.executable,
    "-m",
    "flask",
    "--app",
    "tests.servers.mill:create_app",
    "run",
    "--port",
    "0",
)


def waitress(folder: Path) -> Server:
    return Server(folder, WAITRESS)


@pytest.mark.slow
def test_waitress_counts_what_all_its_threads_answer(tmp_path: Path) -> None:
    with waitress(tmp_path) as server:
        load = server.drive("/work", 300)
        row = server.rows()["work"]
        assert (load.answered, row["count"], row["parts"][0]["count"]) == (300, 300, 300)


@pytest.mark.slow
def test_waitress_sends_a_file_whole_and_it_is_counted(tmp_path: Path) -> None:
    (tmp_path / "cloth.bin").write_bytes(b"y" * 300_000)
    with waitress(tmp_path) as server:
        body = server.get("/file").body
        row = server.until(lambda: server.rows().get("file"))
        assert (len(body), row["bytes_out_mean"], row["count"]) == (300_000, 300_000, 1)


@pytest.mark.slow
def test_waitress_streams_to_the_last_byte(tmp_path: Path) -> None:
    with waitress(tmp_path) as server:
        body = server.get("/rows/30").body
        row = server.until(lambda: server.rows().get("rows"))
        assert (len(body), row["bytes_out_mean"], row["disconnected"]) == (1966080, 1966080, 0)


@pytest.mark.slow
def test_waitress_leaves_everything_on_disk_when_it_stops(tmp_path: Path) -> None:
    with waitress(tmp_path) as server:
        server.drive("/", 50)
        server.stop()
        (run,) = runs(server.state)
        counted = [s.data.count for key, s in columns.series(read(run).columns).items()
                   if key.meter == REQUEST.name]  # fmt: skip
        assert sum(counted) == 50


@pytest.mark.slow
def test_the_development_server_counts_what_all_its_threads_answer(tmp_path: Path) -> None:
    with Server(tmp_path, (*FLASK, "--no-reload")) as server:
        load = server.drive("/work", 200)
        assert (load.answered, server.rows()["work"]["count"]) == (200, 200)


@pytest.mark.slow
def test_the_parent_of_the_reloader_never_writes(tmp_path: Path) -> None:
    with Server(tmp_path, (*FLASK, "--debug")) as server:
        pid = server.get("/").pid
        locks = [int(path.name.split("-")[1]) for path in server.state.glob("*/w-*.lock")]
        assert locks == [pid] and pid != server.process.pid


@pytest.mark.slow
def test_after_a_reload_the_new_process_counts(tmp_path: Path) -> None:
    extra = tmp_path / "extra.py"
    extra.write_text("")
    with Server(tmp_path, (*FLASK, "--debug", "--extra-files", str(extra))) as server:
        before = server.get("/").pid
        os.utime(extra, (2_000_000_000, 2_000_000_000))
        server.until(lambda: server.answers("/ready") not in (None, before))
        server.drive("/", 30)
        assert server.rows()["index"]["count"] in (30, 31)  # a new start may be a new run


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.slow
@pytest.mark.parametrize("reload", [True, False])
def test_in_debug_mode_the_server_prints_a_link_and_a_code_that_sign_in(
    tmp_path: Path, reload: bool
) -> None:
    command = (*FLASK, "--debug", *(() if reload else ("--no-reload",)))
    with Server(tmp_path, command, KNITPERF_ACCESS_TOKEN=None) as server:
        assert server.get("/perf/report").status == 404
        server.until(lambda: "later use the code" in server.output)
        link = re.findall(
            rf" \* Performance pages: http://127.0.0.1:{server.port}(\S+)", server.output
        )
        codes = re.findall(r"later use the code (\S{14})\.", server.output)
        assert (len(link), len(codes)) == (1, 1)
        path, _, query = link[0].partition("?")
        tries = [(query, 303), (query, 403), (f"token={codes[0]}", 303), ("token=AAAA", 403)]
        assert [server.get(path, "POST", body, **FORM).status for body, _ in tries] == [
            status for _, status in tries
        ]


@pytest.mark.slow
def test_in_debug_mode_a_server_states_why_no_link_would_work(tmp_path: Path) -> None:
    file = tmp_path / "\x1b[31mred"
    file.write_text("")
    config = {"KNITPERF_ACCESS_TOKEN": None, "KNITPERF_STATE_DIR": str(file)}
    with Server(tmp_path, (*FLASK, "--debug", "--no-reload"), **config) as server:
        assert server.get("/perf/report").status == 404
        server.until(lambda: "A link would not work" in server.output)
        assert "?code=" not in server.output and f"/{file.name}" not in server.output
        assert "valid in this process alone. A link would not work: the state dir" in server.output
        (code,) = re.findall(r"Use the code (\S{14})\.", server.output)
        assert server.get("/perf/sign-in", "POST", f"token={code}", **FORM).status == 303


@pytest.mark.slow
def test_the_code_of_debug_mode_outlives_a_reload(tmp_path: Path) -> None:
    extra = tmp_path / "extra.py"
    extra.write_text("")
    command = (*FLASK, "--debug", "--extra-files", str(extra))
    with Server(tmp_path, command, KNITPERF_ACCESS_TOKEN=None) as server:
        os.utime(extra, (2_000_000_000, 2_000_000_000))
        server.until(lambda: server.output.count("later use the code") == 2)
        assert len(set(re.findall(r"later use the code (\S{14})\.", server.output))) == 1


@pytest.mark.slow
def test_without_debug_mode_the_pages_stay_closed(tmp_path: Path) -> None:
    with Server(tmp_path, FLASK, KNITPERF_ACCESS_TOKEN=None) as server:
        answers = [server.get(path).status for path in ("/perf/report", "/perf/sign-in")]
        assert answers == [404, 404] and "Performance pages" not in server.output


@pytest.mark.slow
def test_loading_the_application_for_a_command_writes_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path, (*FLASK[:5], "routes"))
    server.configure()
    assert server.run() == 0
    assert "index" in server.output and not server.state.exists()
