"""Proxies between a client and a server on one machine: a plain nginx, and a TCP forwarder."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from .servers import ServerError, stop, wait_for

_PIECE = 65536
_CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
    }}
}}
"""


def nginx_program() -> str | None:
    """Return the path of nginx, ``None`` where it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@contextlib.contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[int]:
    """Run an nginx whose only line is ``proxy_pass``: it adds no header field; yield its port.

    Args:
        folder: for its configuration and its files.
        upstream: port of the server behind it.
    """
    program = nginx_program()
    if program is None:
        raise ServerError("nginx is not installed (Debian: apt-get install nginx-light)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, port=port, upstream=upstream), encoding="utf-8"
    )
    process = subprocess.Popen([program, "-c", str(configuration), "-p", str(folder)])
    try:
        wait_for(port, process, folder / "error.log")
        yield port
    finally:
        stop(process)


@contextlib.contextmanager
def forwarder(upstream: int) -> Iterator[int]:
    """Forward TCP connections, as SSH, Docker and cloud shells do; yield the port.

    Args:
        upstream: port of the server behind it.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=_accept, args=(listener, upstream), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)  # accept() returns


def _accept(listener: socket.socket, upstream: int) -> None:
    with contextlib.suppress(OSError):  # the listener was shut down
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", upstream))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # either side closed its connection
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
