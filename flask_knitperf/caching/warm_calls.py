"""Calls of cached functions that may be made again without a request: to warm the cache.

A call can be repeated later, and in another process, if its arguments are plain data. They are written
as JSON with their types, never as pickle: a program that can write the file could otherwise run code.
Arguments are stored by the names of their parameters, without those that are the default, so that they
still fit after the function got another parameter.
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, date, datetime
from decimal import Decimal
from inspect import Parameter
from typing import Any, NamedTuple

from ..core.host_exceptions import raise_if_of_host

MAX_CALL_BYTES = 1024
"""Estimated bytes of the arguments of a call above which it is not remembered."""
_MAX_DEPTH = 5
"""Nested tuples in an argument of a call that is remembered."""
_MAX_BITS = 256
"""Bits of a whole number in a call that is remembered."""
IS_WARMING: ContextVar[bool] = ContextVar("knitperf_warming", default=False)
"""Whether the current code loads values that no call needs yet, so that it does not count as one."""
_Stored = Any  # JSON: a value, or a list of its type and its text


class Call(NamedTuple):
    """Arguments of one call, all of them plain data.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
        size: estimated bytes.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    size: int = 0


def call_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """Return a call that can be repeated, ``None`` if an argument is not plain data, or is large."""
    size = _size((*args, *kwargs.values()), _MAX_DEPTH + 1)
    if size is None or size > MAX_CALL_BYTES:
        return None
    return Call(args, dict(kwargs), size)


def _size(value: Any, depth: int) -> int | None:
    """Return the estimated bytes of plain data, ``None`` for anything else."""
    kind = type(value)  # a subclass may have more content than its base
    if kind is tuple:
        if not depth or len(value) > MAX_CALL_BYTES:
            return None
        sizes = [_size(one, depth - 1) for one in value]
        return None if None in sizes else 16 + sum(size for size in sizes if size is not None)
    if kind is str or kind is bytes:
        return 16 + len(value)
    if kind is int:
        return 32 if value.bit_length() <= _MAX_BITS else None
    if kind is Decimal:
        return 32 if len(value.as_tuple().digits) <= _MAX_BITS else None
    if kind is datetime:  # of others the zone, or which of two equal times it is, would be lost
        is_plain = value.tzinfo is None or value.tzinfo is UTC
        return 32 if is_plain and not value.fold else None
    return 16 if kind in (float, bool, type(None), date) else None


# -- as JSON -------------------------------------------------------------------------------------------


def stored(signature: inspect.Signature, call: Call) -> dict[str, _Stored]:
    """Return the arguments of a call as JSON by the names of their parameters.

    Args:
        signature: of the function.
        call: the call.

    Raises:
        TypeError: the function does not accept the arguments.
    """
    document: dict[str, _Stored] = {}
    for name, value in signature.bind(*call.args, **call.kwargs).arguments.items():
        parameter = signature.parameters[name]
        if parameter.kind is Parameter.VAR_KEYWORD:
            document[name] = {key: _to_json(one) for key, one in value.items()}
        elif not _is_default(value, parameter.default):
            document[name] = _to_json(value)
    return document


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (
        type(value) is type(default) and type(value) in (str, int, bytes) and value == default
    )


def restored(signature: inspect.Signature, document: Any) -> Call | None:
    """Return the call of a document of :func:`stored`, ``None`` if it does not fit the function.

    Args:
        signature: of the function now.
        document: any JSON value.
    """
    if not isinstance(document, dict) or not document.keys() <= signature.parameters.keys():
        return None
    bound = inspect.BoundArguments(signature, {})
    try:
        for name, parameter in signature.parameters.items():
            if name in document:
                value = document[name]
                bound.arguments[name] = (
                    {str(key): _from_json(one) for key, one in value.items()}
                    if parameter.kind is Parameter.VAR_KEYWORD else _from_json(value)
                )  # fmt: skip
        signature.bind(*bound.args, **bound.kwargs)
        return call_of(bound.args, bound.kwargs)
    except Exception as error:  # it was written by another version, or by another program
        raise_if_of_host(error)
        return None


def _to_json(value: Any) -> _Stored:
    kind = type(value)
    if kind in (str, bool, type(None)):
        return value
    if kind is tuple:
        return ["tuple", [_to_json(one) for one in value]]
    if kind is bytes:
        return ["bytes", base64.b64encode(value).decode()]
    if kind is float:
        return ["float", value.hex()]
    if kind in (date, datetime):
        return [kind.__name__, value.isoformat()]
    return [kind.__name__, str(value)]  # int, Decimal


_READERS: dict[str, Callable[[str], Any]] = {
    "bytes": base64.b64decode, "float": float.fromhex, "int": int, "Decimal": Decimal,
    "date": date.fromisoformat, "datetime": datetime.fromisoformat,
}  # fmt: skip


def _from_json(document: _Stored) -> Any:
    """Return plain data.

    Raises:
        Exception: the document is none of ours.
    """
    if document is None or isinstance(document, str | bool):
        return document
    kind, text = document
    if kind == "tuple":
        return tuple(_from_json(one) for one in text)
    return _READERS[kind](text)
