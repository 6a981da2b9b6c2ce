"""Sends one message by Apprise, in a child process that reads a request from its standard input.

The request is JSON: ``urls``, ``title`` and ``body``. The last line of the output is the result. The log
of Apprise is dropped, and errors are reported by their type alone: both may have parts of addresses.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

RESULT = "\nknitperf: "
"""Start of the result."""
SENT = "sent"
"""The result if all addresses took the message, else it is a reason."""


def main() -> None:
    """Send the message of the request, and write the result."""
    print(RESULT + _send(json.load(sys.stdin)))  # noqa: T201


def _send(request: dict[str, Any]) -> str:
    logging.disable()
    try:
        import apprise
    except ImportError:
        return "this channel needs Apprise: pip install 'flask_knitperf[apprise]'"
    try:
        sender = apprise.Apprise()
        if not all(sender.add(url) for url in request["urls"]):
            return "Apprise does not support one of the addresses"
        is_sent = sender.notify(
            title=request["title"], body=request["body"], body_format=apprise.NotifyFormat.TEXT
        )
    except Exception as error:
        return f"Apprise failed: {type(error).__name__}"
    return SENT if is_sent else "Apprise could not deliver it to all addresses"


if __name__ == "__main__":
    main()
