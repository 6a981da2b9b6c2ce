"""Files of values, whose arrays are mapped into each process that reads them.

::

    magic, total length, lengths of the parts, checksum of the head
    facts             JSON: everything about the value that a reader must check
    stream            pickle (protocol 5) without the arrays
    arrays            each at a multiple of 64 bytes, as they lie in memory

A file is mapped read-only, so all processes have its pages in common. It never changes; it is written
under another name and renamed.

Only parts of frames are read (:data:`_PARTS`): a foreign file calls no other code. It could still damage
the memory of the process, as any array with a forged type can, so the folder has to be the user's alone.
A file that is damaged, or has another format, raises :class:`ValueFileError`.
"""

from __future__ import annotations

import importlib
import io
import json
import mmap
import os
import pickle
import sys
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

from ..core.errors import KnitPerfError
from ..core.host_exceptions import raise_if_of_host
from ..storage.atomic_files import Disk
from .frame_copies import extra_attributes
from .immutability import is_complete_in_pickle

_MAGIC = b"KNITVAL1"
_HEAD = Struct("<8sQIIII")  # magic, total length, lengths of facts, table and stream, checksum
_ARRAY = Struct("<QQ")  # offset and length
_ALIGNMENT = 64
_MAX_HEAD = 1 << 30
MAX_MAPPED = 128
"""Number of files that a process has mapped at most, since each takes a descriptor; others are read."""
_DESCRIPTORS = 8
"""Mappings take at most one in this number of the descriptors that a process may have."""
_MAPPED: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


class ValueFileError(KnitPerfError):
    """A file that holds no value in this format."""


class Unpicklable(KnitPerfError):  # noqa: N818 (not a fault)
    """A value that does not consist of parts of frames only; the reason."""


class Pickled(NamedTuple):
    """A value that can be written to a file.

    Attributes:
        stream: the value without its arrays.
        arrays: the memory of its arrays, which still belongs to the value.
    """

    stream: bytes
    arrays: list[memoryview]

    @property
    def size(self) -> int:
        """Bytes of stream and arrays."""
        return len(self.stream) + sum(array.nbytes for array in self.arrays)


def pickled(value: Any) -> Pickled:
    """Return a value as it is written to a file.

    Raises:
        Unpicklable: it consists of more than parts of frames, or cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    try:
        _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
        result = Pickled(stream.getvalue(), [buffer.raw() for buffer in buffers])
        _Unpickler(result.stream, result.arrays).load()  # takes no copy of the arrays
    except Exception as error:
        raise_if_of_host(error)
        raise Unpicklable(f"it cannot be written to a file: {error!r}") from error
    return result


def unpickled(content: Pickled) -> Any:
    """Return the value of a stream, which has the memory of the arrays.

    Raises:
        ValueFileError: it is damaged, or has more than parts of frames and plain values.
    """
    try:
        return _Unpickler(content.stream, content.arrays).load()
    except Exception as error:
        raise_if_of_host(error)
        raise ValueFileError(f"it cannot be read: {error!r}") from error


def write(disk: Disk, path: Path, facts: dict[str, Any], value: Pickled) -> int:
    """Write a value to a new file; return its length in bytes.

    Raises:
        OSError: disk full, or no permission; there is no file then.
    """
    about = json.dumps(facts, separators=(",", ":")).encode()
    table_length = _ARRAY.size * len(value.arrays)
    offset = _aligned(_HEAD.size + len(about) + table_length + len(value.stream))
    places = []
    for array in value.arrays:
        places.append(_ARRAY.pack(offset, array.nbytes))
        offset = _aligned(offset + array.nbytes)
    parts = [about, b"".join(places), value.stream]
    head = _HEAD.pack(_MAGIC, offset, *map(len, parts), _checksum(parts))
    chunks: list[Any] = [head, *parts]
    chunks.append(bytes(-sum(map(len, chunks)) % _ALIGNMENT))
    for array in value.arrays:
        chunks += [array, bytes(-array.nbytes % _ALIGNMENT)]
    disk.write_parts(path, chunks)
    return offset


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a file.

    Raises:
        OSError: it does not exist, or cannot be read.
        ValueFileError: it is damaged, or not the file of a value.
    """
    with open(path, "rb") as file:
        return _facts(_parts(file.read(_HEAD.size), file.read, os.fstat(file.fileno()).st_size)[0])


def load(path: Path) -> tuple[Any, int]:
    """Return the value of a file, and the bytes of its arrays that are mapped.

    Raises:
        OSError: it does not exist, or cannot be mapped.
        ValueFileError: it is damaged, no file of a value, or has more than parts of frames.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEAD.size)
        _, table, stream = _parts(head, file.read, size)
        if len(_MAPPED) < _max_mapped():
            mapping = mmap.mmap(file.fileno(), size, access=_access())
            _MAPPED.add(mapping)
            content, is_mapped = memoryview(mapping), True
        else:
            file.seek(0)
            content, is_mapped = memoryview(file.read()), False
    arrays = []
    for offset, length in _ARRAY.iter_unpack(table):
        if offset + length > size:
            raise ValueFileError(f"{path} has an array behind its end")
        arrays.append(content[offset : offset + length])
    try:
        value = _Unpickler(stream, arrays).load()
    except Exception as error:
        raise_if_of_host(error)
        raise ValueFileError(f"{path} cannot be read: {error!r}") from error
    return value, sum(array.nbytes for array in arrays) if is_mapped else 0


def _access() -> int:
    """Return the access of a mapping: pandas before 3 computes with some arrays in writable memory only.

    There a hit copies all arrays, so that no caller gets those of the mapping.
    """
    pandas = sys.modules.get("pandas")
    copies_on_write = pandas is None or int(pandas.__version__.partition(".")[0]) >= 3
    return mmap.ACCESS_READ if copies_on_write else mmap.ACCESS_COPY


def _max_mapped() -> int:
    try:
        system: Any = importlib.import_module("resource")
    except ImportError:  # Windows
        return MAX_MAPPED
    limit, _ = system.getrlimit(system.RLIMIT_NOFILE)
    return MAX_MAPPED if limit < 0 else min(MAX_MAPPED, limit // _DESCRIPTORS)


def _parts(head: bytes, read: Callable[[int], bytes], size: int) -> list[bytes]:
    """Return the facts, the table of the arrays and the stream of a file.

    Raises:
        ValueFileError: they are damaged, or the file has another length.
    """
    if len(head) < _HEAD.size or head[: len(_MAGIC)] != _MAGIC:
        raise ValueFileError("it is not a file of a value")
    _, total, *lengths, checksum = _HEAD.unpack(head)
    if total != size or sum(lengths) > min(size, _MAX_HEAD) or lengths[1] % _ARRAY.size:
        raise ValueFileError("it was cut off")
    parts = [read(length) for length in lengths]
    if _checksum(parts) != checksum:
        raise ValueFileError("it is damaged")
    return parts


def _facts(about: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(about)
    except ValueError as error:
        raise_if_of_host(error)
        raise ValueFileError("its facts are damaged") from error
    if not isinstance(facts, dict):
        raise ValueFileError("its facts are damaged")
    return facts


def _checksum(parts: list[bytes]) -> int:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return checksum


def _aligned(offset: int) -> int:
    return offset + -offset % _ALIGNMENT


# -- the parts of frames -----------------------------------------------------------------------------

_PARTS: dict[str, frozenset[str]] = {
    "builtins": frozenset({"bytearray", "complex", "range", "set", "frozenset", "slice"}),
    "collections": frozenset({"OrderedDict"}),
    "datetime": frozenset({"date", "datetime", "time", "timedelta", "timezone"}),
    "decimal": frozenset({"Decimal"}),
    "fractions": frozenset({"Fraction"}),
    "numpy": frozenset({"dtype", "ndarray", "_frombuffer", "_reconstruct", "scalar"}),
    "pandas": frozenset({
        "Categorical", "DataFrame", "Index", "Interval", "NA", "Period", "Series", "SingleBlockManager",
        "BlockManager", "IntIndex", "BlockIndex", "_new_Index", "_new_DatetimeIndex",
        "_new_IntervalIndex", "_new_PeriodIndex", "_new_TimedeltaIndex", "_unpickle_block",
        "_nat_unpickle", "__nat_unpickle", "_timedelta_unpickle", "_unpickle_timestamp",
        "__pyx_unpickle_NDArrayBacked", "__pyx_unpickle_IntervalMixin",
    }),
    "pyarrow": frozenset({
        "_restore_array", "py_buffer", "type_for_alias", "field", "schema", "chunked_array",
        "decimal128", "decimal256", "dictionary", "duration", "fixed_size_binary", "list_",
        "large_list", "map_", "struct", "time32", "time64", "timestamp",
    }),
    "pytz": frozenset({"_p", "_UTC"}),
    "zoneinfo": frozenset({"ZoneInfo"}),
}  # fmt: skip
"""Classes and functions of the streams of frames, by package. Those of pandas whose names end in
:data:`_PANDAS_CLASSES` belong to them too."""
_PANDAS_CLASSES = ("Array", "Dtype", "Index")
_OFFSETS = "pandas._libs.tslibs.offsets"


class _Pickler(pickle.Pickler):
    """Pickler of parts of frames: what other classes write may be anything, parts of frames too."""

    def reducer_override(self, value: Any) -> Any:
        """Return ``NotImplemented``, for the usual form of a part of a frame.

        Raises:
            Unpicklable: it is of another class, or has attributes that a pickle does not contain.
        """
        if not is_complete_in_pickle(value):
            raise Unpicklable(f"a {type(value).__qualname__} is not a part of a frame")
        extra = extra_attributes(value)
        if extra:
            raise Unpicklable(f"it has the attribute {extra[0]!r}")
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """Unpickler of parts of frames."""

    def __init__(self, stream: bytes, arrays: list[memoryview]) -> None:
        super().__init__(io.BytesIO(stream), buffers=arrays)

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function that frames consist of.

        Raises:
            UnpicklingError: it is another one.
        """
        if (module, name) == (
            "builtins",
            "getattr",
        ):  # zones are pickled by a method of their class
            return _method_of_zone
        package = module.partition(".")[0]
        if package in _PARTS and package not in sys.modules:
            importlib.import_module(package)
        # to import any other module of a package would run its code
        if module not in sys.modules or not (
            name in _PARTS.get(package, ()) or _is_class_of_pandas(module, name)
        ):
            raise pickle.UnpicklingError(f"{module}.{name} is not a part of a frame")
        return super().find_class(module, name)


def _is_class_of_pandas(module: str, name: str) -> bool:
    if module.partition(".")[0] != "pandas" or "." in name:
        return False
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and (name.endswith(_PANDAS_CLASSES) or module == _OFFSETS)


def _method_of_zone(owner: Any, name: str) -> Any:
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo is None or owner is not zoneinfo.ZoneInfo or name != "_unpickle":
        raise pickle.UnpicklingError(f"{name} is not a part of a frame")
    return owner._unpickle
