"""Descriptors of ours in a process whose host closes all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from flask_knitperf.core import clock
from flask_knitperf.core.clock import SYSTEM
from flask_knitperf.core.owned_descriptor import OwnedDescriptor
from flask_knitperf.storage import writer
from tests.conftest import MEASURED
from tests.recording.recorders import make_recorder, observe


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


def test_a_descriptor_is_ours_until_it_is_closed(tmp_path: Path) -> None:
    number = _opened(tmp_path / "ours")
    owned = OwnedDescriptor(number)
    assert owned.number() == number
    owned.close()
    assert owned.number() == -1
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(number)


def test_a_number_that_is_another_file_s_by_now_is_neither_used_nor_closed(tmp_path: Path) -> None:
    number = _opened(tmp_path / "ours")
    owned = OwnedDescriptor(number)
    os.close(number)
    assert owned.number() == -1
    assert _opened(tmp_path / "the host's") == number
    assert owned.number() == -1
    owned.close()
    del owned
    os.fstat(number)
    os.close(number)


def test_a_dropped_descriptor_is_closed(tmp_path: Path) -> None:
    number = _opened(tmp_path / "ours")
    owned = OwnedDescriptor(number)
    del owned
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(number)


def test_a_descriptor_whose_creation_was_interrupted_closes_nothing() -> None:
    interrupted = OwnedDescriptor.__new__(OwnedDescriptor)
    interrupted.__del__()
    assert not hasattr(interrupted, "_number")


def test_a_number_that_was_never_open_stays_closed() -> None:
    assert OwnedDescriptor(-1).number() == -1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has schedstat")
def test_many_threads_keep_a_bounded_number_of_descriptors_open() -> None:
    source = """
        import os, resource, threading
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        from flask_knitperf.core.clock import SYSTEM
        before, end = len(os.listdir("/proc/self/fd")), threading.Event()
        all_read = threading.Barrier(61)
        def read():
            for _ in range(2):
                assert SYSTEM.run_queue_ns() >= 0
            all_read.wait()
            end.wait()
        threads = [threading.Thread(target=read) for _ in range(60)]
        for thread in threads: thread.start()
        all_read.wait()
        print(len(os.listdir("/proc/self/fd")) - before)
        end.set()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        env=MEASURED, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 128 // 16


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has schedstat")
def test_the_run_queue_is_read_again_after_the_host_closed_its_file() -> None:
    def read() -> None:
        SYSTEM.run_queue_ns()
        path = Path("/proc/self/fd")
        ours = [n for n in path.iterdir() if n.exists() and "schedstat" in str(n.readlink())]
        for number in ours:
            os.close(int(number.name))
        results.append(SYSTEM.run_queue_ns())

    results: list[int] = []
    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert results and results[0] >= 0


def test_a_run_queue_that_cannot_be_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    known = clock._Schedules()
    known.is_known = True
    monkeypatch.setattr(clock, "_SCHEDSTAT", "/nonexistent")
    assert known.run_queue_ns() == 0
    known.is_known = False
    assert known.run_queue_ns() == 0


def test_a_worker_whose_lock_the_host_closed_writes_and_closes_nothing(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path)
    observe(recorder, 3)
    worker = recorder.worker
    lock = worker._lock
    assert lock is not None and not worker.lost()
    number = lock.number()
    os.close(number)
    assert _opened(tmp_path / "the host's") == number
    assert worker.lost()
    worker.publish()
    recorder.close()
    assert (tmp_path / "the host's").read_bytes() == b"" and len(writer._UNCLOSED) == 1
    writer._UNCLOSED.clear()  # here their descriptors are open
    os.fstat(number)
    os.close(number)


_DAEMON = """
import os, sys, time
from flask import Flask
from flask_knitperf import KnitPerf

app = Flask("daemon")
app.config.update(SECRET_KEY="daemon", KNITPERF_STATE_DIR=sys.argv[1], KNITPERF_SAMPLER=True)
app.add_url_rule("/", "index", lambda: "x")
KnitPerf(app)
client = app.test_client()
for _ in range(5):
    assert client.get("/").data == b"x"
time.sleep(1.2)
os.closerange(3, 200)
files = [open(f"{sys.argv[1]}.{n}", "w+b") for n in range(60)]
for file in files:
    file.write(b"of the host")
    file.flush()
for _ in range(30):
    assert client.get("/").data == b"x"
    time.sleep(0.1)
for n, file in enumerate(files):
    os.fstat(file.fileno())
    file.seek(0)
    assert file.read() == b"of the host", n
report = app.extensions["knitperf"].documents.report("run")
print(sum(row["count"] for row in report["endpoints"]))
app.extensions["knitperf"].close()
for file in files:
    os.fstat(file.fileno())
    file.close()
"""


@pytest.mark.slow
def test_a_host_that_closes_all_descriptors_keeps_its_own_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DAEMON, str(tmp_path / "state")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 20  # what came within a second of the closing may be lost
