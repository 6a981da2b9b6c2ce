"""Headers of responses, of which the host may have made anything."""

from __future__ import annotations

from typing import Any

from ...core.host_exceptions import raise_if_of_host


def header(headers: Any, name: str) -> str | None:
    """Return the value of a header, ``None`` without one.

    Args:
        headers: as they were passed to ``start_response``.
        name: in lower case.
    """
    try:
        for key, value in headers or ():
            if key.lower() == name:
                return str(value)
    except (AttributeError, TypeError, ValueError) as error:
        raise_if_of_host(error)
        return None  # not a list of pairs of texts: the server decides what it makes of it
    return None
