"""Cache keys: an unambiguous encoding of arguments, by content and by type.

Two arguments have the same encoding only if no function can distinguish them, so a cached answer is
never that of another call: 1, ``True``, 1.0 and ``Decimal("1.0")`` are four keys, and so are a table and
the same table with one other cell. The opposite does not hold: equal arguments may have different keys
(a dict in another order, a frame with another layout), which only costs a miss.

The encoding is prefix-free: each value begins with a letter for its type, and whatever has no fixed
length begins with it. So a sequence of encoded values is read in one way only, and their concatenation
is a key. Types are matched exactly. An instance of a subclass of one of them may behave differently, so
its class and all of its attributes are encoded too.

A part that belongs to this process, such as a class that is defined within a function, makes the key a
local one: :attr:`Encoding.shareable`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import itertools
import pathlib
import pickle
import struct
import sys
import types
import uuid
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

from ..core.errors import CacheKeyError
from ..core.host_exceptions import raise_if_of_host
from .array_digest import DIGEST_BYTES, array_digest
from .immutability import is_zone
from .instance_state import (
    attributes,
    is_importable,
    is_of_library,
    is_pandas_scalar,
    is_plain,
)
from .served_frames import digest_of

MAX_DEPTH = 100
"""Depth of nested containers at which an argument is refused; one that contains itself is deeper."""
MAX_PARTS = 2_000_000
"""Number of encoded values beyond which an argument is refused; one in which lists are shared may have
billions."""
PLAIN = frozenset({str, int, bytes, type(None)})
"""Types whose values are equal only if they are of the same type: they are their own key."""


class Encoding:
    """Encoder of one key.

    Args:
        functions: whether a function has a key, that of its code; it may read anything besides.

    Attributes:
        parts: the encoded values.
        shareable: whether the key has the same meaning in other processes.
    """

    __slots__ = ("_depth", "_functions", "parts", "shareable")

    def __init__(self, *, functions: bool = True) -> None:
        self._functions = functions
        self.parts: list[bytes] = []
        self.shareable = True
        self._depth = 0

    def add(self, value: Any) -> None:
        """Encode a value.

        Raises:
            CacheKeyError: it, or something in it, has no content that could be encoded.
        """
        encode = _ENCODERS.get(type(value))
        if encode is _function and not self._functions:
            raise CacheKeyError("a function may depend on more than its code")
        try:
            if encode is not None:
                encode(self, value)
            else:
                self._add_other(value)
        except CacheKeyError:
            raise
        except Exception as error:  # an attribute or a class that misbehaves
            raise_if_of_host(error)
            raise CacheKeyError(f"it cannot be read ({error!r})") from error

    def digest(self) -> bytes:
        """Return the digest of all values, :data:`DIGEST_BYTES` long."""
        return hashlib.blake2b(b"".join(self.parts), digest_size=DIGEST_BYTES).digest()

    def text(self, tag: bytes, content: bytes) -> None:
        """Add content of any length."""
        self.parts.append(b"%b%d:" % (tag, len(content)))
        self.parts.append(content)

    def items(self, tag: bytes, items: Iterable[Any], count: int) -> None:
        """Add a container's items.

        Raises:
            CacheKeyError: an item cannot be encoded, or the container is nested too deeply.
        """
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CacheKeyError(
                f"it is nested more than {MAX_DEPTH} levels deep, or contains itself"
            )
        if len(self.parts) > MAX_PARTS:
            raise CacheKeyError(f"it holds more than {MAX_PARTS:,} values")
        self.parts.append(b"%b%d:" % (tag, count))
        for item in items:
            self.add(item)
        self._depth -= 1

    def kind(self, tag: bytes, kind: type) -> None:
        """Add the identity of a class: its name, unless another class of this process has or had it."""
        name = f"{kind.__module__}.{kind.__qualname__}"
        encoded = name.encode("utf-8", "surrogatepass")
        if is_importable(kind) and _has_name(kind, name):
            self.text(tag, encoded)
        else:
            self.shareable = False
            self.text(tag, b"%b#%d" % (encoded, _number(kind)))

    def unordered(self, tag: bytes, values: Iterable[Any]) -> None:
        """Add the values of a set: in the order of their encodings, for a set has none."""
        encoded = []
        for value in values:
            one = Encoding(functions=self._functions)
            one._depth = self._depth
            one.items(b"", (value,), 1)
            self.shareable = self.shareable and one.shareable
            encoded.append(b"".join(one.parts))
        self.text(tag, b"%d:" % len(encoded) + b"".join(sorted(encoded)))

    def _add_other(self, value: Any) -> None:
        """Encode a value whose type is in no table."""
        kind = type(value)
        for matches, encode in _BY_CLASS:
            if matches(kind):
                encode(self, value)
                return
        if is_of_library(kind, _LIBRARIES):
            self._add_array(value)
            return
        raise CacheKeyError(f"a {kind.__qualname__} has no content that could be a key")

    def _add_array(self, value: Any) -> None:
        """Encode an array, a frame, or a scalar of numpy or pandas."""
        kind = type(value)
        self.kind(b"A", kind)
        if hasattr(value, "dtype") and hasattr(value, "tobytes") and not hasattr(value, "__len__"):
            if value.dtype.hasobject:  # pragma: no cover (no scalar of numpy holds an object)
                raise CacheKeyError("it holds a Python object")
            self.text(b"n", value.dtype.str.encode() + value.tobytes())
            return
        self.parts.append(digest_of(value, lambda: array_digest(value, content_digest)))


def function_digest(function: Callable[..., Any]) -> bytes:
    """Return the digest of the code of a function, :data:`DIGEST_BYTES` long.

    A function that was edited has another digest, one that only moved within its file has the same.
    """
    code = getattr(function, "__code__", None)
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    total = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES)
    if code is not None:
        _add_code(total, code)
    return total.digest()


def _add_code(total: Any, code: types.CodeType) -> None:
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    total.update(repr((sys.version_info[:2], code.co_flags, code.co_argcount, names)).encode())
    total.update(code.co_code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _add_code(total, constant)
        else:
            total.update(_constant(constant))


def _constant(constant: Any) -> bytes:
    """Return the encoding of a constant; a frozenset has another order in each process."""
    one = Encoding()
    one.add(constant)
    return b"".join(one.parts)


def content_digest(value: Any) -> bytes:
    """Return the digest of one value, such as a cell of a frame.

    Raises:
        CacheKeyError: it has no content that could be encoded.
    """
    one = Encoding()
    one.add(value)
    return one.digest()


# -- classes ---------------------------------------------------------------------------------------

_NUMBERS: weakref.WeakKeyDictionary[type, int] = weakref.WeakKeyDictionary()
_NEXT = itertools.count(1)


_NAMED: dict[str, weakref.ref[type]] = {}
"""The first importable class of each name that was encoded: a reloaded module defines another one."""


def _has_name(kind: type, name: str) -> bool:
    """Return whether a class is the first importable one of its name."""
    first = _NAMED.get(name)
    if first is None:
        first = _NAMED.setdefault(name, weakref.ref(kind))
    return first() is kind


def _number(kind: type) -> int:
    """Return a number that no other class of this process has or will have."""
    number = _NUMBERS.get(kind)
    if number is None:
        number = _NUMBERS.setdefault(kind, next(_NEXT))
    return number


# -- one encoder per type --------------------------------------------------------------------------


def _float(encoding: Encoding, value: float) -> None:
    encoding.parts.append(struct.pack("<cd", b"f", value))


def _complex(encoding: Encoding, value: complex) -> None:
    encoding.parts.append(struct.pack("<cdd", b"c", value.real, value.imag))


def _str(encoding: Encoding, value: str) -> None:
    encoding.text(b"s", value.encode("utf-8", "surrogatepass"))


def _decimal(encoding: Encoding, value: decimal.Decimal) -> None:
    sign, digits, exponent = value.as_tuple()
    encoding.text(b"d", f"{sign}{exponent}:{''.join(map(str, digits))}".encode())


def _dict(encoding: Encoding, value: dict[Any, Any], tag: bytes = b"M") -> None:
    encoding.items(tag, itertools.chain.from_iterable(list(value.items())), len(value))


def _default_dict(encoding: Encoding, value: defaultdict[Any, Any]) -> None:
    encoding.parts.append(b"X")
    encoding.add(value.default_factory)
    _dict(encoding, value)


def _deque(encoding: Encoding, value: deque[Any]) -> None:
    encoding.parts.append(b"q")
    encoding.add(value.maxlen)
    encoding.items(b"(", list(value), len(value))


def _datetime(encoding: Encoding, value: dt.datetime) -> None:
    encoding.text(b"t", f"{value.replace(tzinfo=None, fold=0).isoformat()}/{value.fold}".encode())
    _zone(encoding, value.tzinfo)


def _time(encoding: Encoding, value: dt.time) -> None:
    encoding.text(b"u", f"{value.replace(tzinfo=None, fold=0).isoformat()}/{value.fold}".encode())
    _zone(encoding, value.tzinfo)


def _zone(encoding: Encoding, zone: dt.tzinfo | None) -> None:
    if zone is None:
        encoding.parts.append(b"N")
        return
    kind = type(zone)
    encoding.kind(b"z", kind)
    if not is_zone(kind):
        raise CacheKeyError(
            f"its time zone, a {kind.__qualname__}, has no content that could be a key"
        )
    try:
        encoding.text(b"b", pickle.dumps(zone, protocol=5))
    except Exception as error:
        raise_if_of_host(error)
        raise CacheKeyError(f"its time zone {zone!r} cannot be pickled ({error})") from error


def _timestamp(encoding: Encoding, value: Any) -> None:
    encoding.text(b"p", f"{value._value}/{value.unit}/{value.fold}".encode())
    _zone(encoding, value.tzinfo)


def _pandas_scalar(encoding: Encoding, value: Any) -> None:
    kind = type(value)
    if kind.__name__ == "Timestamp":
        _timestamp(encoding, value)
        return
    encoding.kind(b"P", kind)
    if kind.__name__ == "Interval":  # of numbers or of times, which have time zones
        encoding.items(b"(", (value.left, value.right, value.closed), 3)
    else:
        encoding.text(b"b", pickle.dumps(value, protocol=5))


def _slice(encoding: Encoding, value: slice | range) -> None:
    encoding.items(b":" if type(value) is slice else b"r", (value.start, value.stop, value.step), 3)


def _timedelta(encoding: Encoding, value: dt.timedelta) -> None:
    encoding.text(b"e", b"%d/%d/%d" % (value.days, value.seconds, value.microseconds))


def _fraction(encoding: Encoding, value: fractions.Fraction) -> None:
    encoding.text(b"g", b"%d/%d" % (value.numerator, value.denominator))


def _function(encoding: Encoding, value: Any) -> None:
    if value.__closure__ or not is_importable(value):
        raise CacheKeyError("a function that is defined within another has no key")
    encoding.text(b"F", function_digest(value))
    encoding.items(b"(", (value.__defaults__, value.__kwdefaults__), 2)


def _builtin(encoding: Encoding, value: Any) -> None:
    owner = value.__self__
    if not isinstance(owner, types.ModuleType):
        raise CacheKeyError("a bound method has no key")
    encoding.text(b"F", f"{owner.__name__}.{value.__qualname__}".encode())


def _enum(encoding: Encoding, value: enum.Enum) -> None:
    encoding.kind(b"E", type(value))
    encoding.add(value._name_)  # a member of a class that has overridden ``name`` has another one
    if isinstance(value, enum.Flag):  # a combination may have no name
        encoding.add(value._value_)


def _path(encoding: Encoding, value: pathlib.PurePath) -> None:
    encoding.kind(b"/", type(value))
    _str(encoding, str(value))


def _named_tuple(encoding: Encoding, value: Any) -> None:
    encoding.kind(b"T", type(value))
    encoding.items(b"(", tuple.__iter__(value), tuple.__len__(value))


def _dataclass(encoding: Encoding, value: Any) -> None:
    """Encode an instance by its class and all of its attributes, and fields that are of its class."""
    kind = type(value)
    encoding.kind(b"O", kind)
    state = [
        (name, item) for name, item in attributes(value)
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    ]  # fmt: skip
    named = {name for name, _ in state}
    fields = [field.name for field in dataclasses.fields(value)]
    state += [
        (name, getattr(value, name))
        for name in fields
        if name not in named and hasattr(value, name)
    ]
    for name, item in sorted(state, key=lambda pair: pair[0]):
        _str(encoding, name)
        encoding.items(b"=", (item,), 1)


def _plain_dataclass(kind: type) -> bool:
    """Return whether the attributes of a dataclass are all of its state."""
    return dataclasses.is_dataclass(kind) and is_plain(kind)


def _is_named_tuple(kind: type) -> bool:
    """Return whether a class is made by ``namedtuple`` or ``NamedTuple``, without other attributes."""
    return (
        issubclass(kind, tuple)
        and kind.__mro__[1] is tuple
        and hasattr(kind, "_fields")
        and "__dict__" not in kind.__dict__
    )


def _is_subclass(kind: type) -> bool:
    """Return whether a class is derived from one whose content is known."""
    return _content_class(kind) is not None and not is_of_library(kind, _LIBRARIES)


def _content_class(kind: type) -> type | None:
    return next((base for base in kind.__mro__ if base in _EXTENSIBLE), None)


def _subclass(encoding: Encoding, value: Any) -> None:
    """Encode an instance by its class, its attributes, and its content as of the base class."""
    kind = type(value)
    base = _content_class(kind)
    assert base is not None
    encoding.kind(b"S", kind)
    encoding.items(b"=", (list(attributes(value)),), 1)
    _ENCODERS[base](encoding, _EXTENSIBLE[base](value))


_LIBRARIES = frozenset({"numpy", "pandas"})
_STANDARD = frozenset({"pathlib"})
_factory: Any = vars(defaultdict)["default_factory"].__get__
_EXTENSIBLE: dict[type, Callable[[Any], Any]] = {
    str: str.__str__, bytes: bytes.__bytes__, int: int.__int__,
    float: float.__float__, tuple: lambda value: tuple(tuple.__iter__(value)),
    list: lambda value: list(list.__iter__(value)), dict: lambda value: dict(dict.items(value)),
    OrderedDict: lambda value: OrderedDict(OrderedDict.items(value)),
    defaultdict: lambda value: defaultdict(_factory(value), dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}  # fmt: skip
"""Classes whose subclasses have content, and what returns it whatever the subclass overrides."""


_ENCODERS: dict[type, Callable[[Encoding, Any], None]] = {
    type(None): lambda encoding, _: encoding.parts.append(b"N"),
    type(...): lambda encoding, _: encoding.parts.append(b"."),
    bool: lambda encoding, value: encoding.parts.append(b"1" if value else b"0"),
    int: lambda encoding, value: encoding.text(b"i", b"%x" % value),
    float: _float,
    complex: _complex,
    str: _str,
    bytes: lambda encoding, value: encoding.text(b"b", value),
    bytearray: lambda encoding, value: encoding.text(b"B", bytes(value)),
    tuple: lambda encoding, value: encoding.items(b"(", value, len(value)),
    list: lambda encoding, value: encoding.items(b"[", copy := list(value), len(copy)),
    dict: _dict,
    OrderedDict: lambda encoding, value: _dict(encoding, value, b"o"),
    Counter: lambda encoding, value: _dict(encoding, value, b"C"),
    defaultdict: _default_dict,
    deque: _deque,
    set: lambda encoding, value: encoding.unordered(b"{", set(value)),
    frozenset: lambda encoding, value: encoding.unordered(b"<", value),
    slice: _slice,
    range: _slice,
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    uuid.UUID: lambda encoding, value: encoding.text(b"U", value.bytes),
    dt.date: lambda encoding, value: encoding.text(b"D", value.isoformat().encode()),
    dt.datetime: _datetime,
    dt.time: _time,
    dt.timedelta: _timedelta,
    types.FunctionType: _function,
    types.BuiltinFunctionType: _builtin,
    type: lambda encoding, value: encoding.kind(b"K", value),
}

_BY_CLASS: tuple[tuple[Callable[[type], bool], Callable[[Encoding, Any], None]], ...] = (
    (lambda kind: issubclass(kind, enum.Enum), _enum),
    (_is_named_tuple, _named_tuple),
    (
        lambda kind: issubclass(kind, pathlib.PurePath) and is_of_library(kind, _STANDARD),
        _path,
    ),
    (_plain_dataclass, _dataclass),
    (is_pandas_scalar, _pandas_scalar),
    (_is_subclass, _subclass),
    (lambda kind: issubclass(kind, type), lambda encoding, value: encoding.kind(b"K", value)),
)
