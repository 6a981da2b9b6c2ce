"""``python -m tests.servers.with_waitress``: the mill under waitress, on a free port."""

from __future__ import annotations

import signal
import sys
from typing import Any

import waitress

from .mill import create_app


def stop(*_: Any) -> None:
    """End as on Ctrl-C, so that what runs at exit does run."""
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    server = waitress.create_server(create_app(), host="127.0.0.1", port=0, threads=4)
    print(f"Listening at: http://127.0.0.1:{server.socket.getsockname()[1]}", flush=True)
    server.run()
