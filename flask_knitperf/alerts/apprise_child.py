"""Sends one message by Apprise, in a child process that reads a request from its standard input.

The request is JSON: ``urls``, ``title`` and ``body``. The exit code is 0 if all addresses took it.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    """Send the message.

    Raises:
        SystemExit: it was not delivered; its text is the reason.
    """
    request: dict[str, Any] = json.load(sys.stdin)
    try:
        import apprise
    except ImportError:
        sys.exit("this channel needs Apprise: pip install 'flask_knitperf[apprise]'")
    sender = apprise.Apprise()
    if not all(sender.add(url) for url in request["urls"]):
        sys.exit("Apprise does not support one of the addresses")
    if not sender.notify(title=request["title"], body=request["body"]):
        sys.exit("Apprise could not deliver it to all addresses")


if __name__ == "__main__":
    main()
