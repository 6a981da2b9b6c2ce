"""C functions that a sampled frame is calling: they have no frame, so a stack alone does not show them.

A frame that calls a C function stands at the call instruction. The instructions with the same start as
the call load its function: a name, and attributes of that. A global name is looked up; of a local
variable only the method's name is known, which identifies a few methods that hardly any other C type
has. Variables of a running frame are not read: before Python 3.13 that would extend their lives.

Between two bytecode instructions a computing thread stands at a call too, right after it. So only
functions that may take long are named (:data:`_MODULES`), and the rest of its time stays with the line.
"""

from __future__ import annotations

import builtins
import dis
import functools
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, CodeType, FrameType, MethodDescriptorType, ModuleType
from typing import Any, NamedTuple

from ...core.host_exceptions import raise_if_of_host
from ...metrics.stack_trie import StackFrame
from ..waits.replacements import Builtin

_MODULES = {
    "_bcrypt": "bcrypt", "_blake2": "hashlib", "_bz2": "bz2", "_csv": "csv", "_elementtree": "xml",
    "_hashlib": "hashlib", "_lzma": "lzma", "_md5": "hashlib", "_pickle": "pickle", "_queue": "queue",
    "_sha1": "hashlib", "_sha2": "hashlib", "_sha3": "hashlib", "_socket": "socket", "_ssl": "ssl",
    "_thread": "threading", "bcrypt": "bcrypt", "gc": "gc", "marshal": "marshal", "numpy": "numpy",
    "orjson": "orjson", "pyexpat": "xml", "re": "re", "select": "select", "ujson": "ujson",
    "zlib": "zlib",
}  # fmt: skip
"""Names under which modules of C functions are shown."""
_FUNCTIONS = {
    ("builtins", "list.sort"): "list.sort", ("builtins", "sorted"): "sorted",
    ("time", "sleep"): "time.sleep",
}  # fmt: skip
"""Single functions of other modules, by module and name."""
LOCK = "threading.Lock.acquire"
"""Name under which all locks in C are shown that a frame waits for, in a ``with`` statement too."""
_ACQUIRE = (".acquire", ".__enter__")
_METHODS = {
    "findall": "re.Pattern.findall", "finditer": "re.Pattern.finditer",
    "fullmatch": "re.Pattern.fullmatch", "match": "re.Pattern.match", "search": "re.Pattern.search",
    "sub": "re.Pattern.sub", "subn": "re.Pattern.subn", "sort": "list.sort",
    "compress": "zlib.compress", "decompress": "zlib.decompress",
    "recv": "socket.recv", "recv_into": "socket.recv_into", "sendall": "socket.sendall",
    "writerow": "csv.writer.writerow", "writerows": "csv.writer.writerows",
    "execute": "database.execute", "executemany": "database.execute",
    "executescript": "database.execute", "fetchall": "database.fetch", "fetchmany": "database.fetch",
    "acquire": LOCK, "__enter__": LOCK,
}  # fmt: skip
"""Methods of C types that are recognised by their name alone."""
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME")
_LOCALS = ("LOAD_FAST", "LOAD_DEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_WITH = "BEFORE_WITH"  # calls ``__enter__``
_MAX_CODES = 1024
_CLASS_VARIABLES: Callable[[type], Mapping[str, Any]] = vars(type)["__dict__"].__get__
"""Returns the variables of a class, past the attributes of its metaclass."""


class _Called(NamedTuple):
    """Function of a call instruction.

    Attributes:
        root: the global name from which it is loaded, ``None`` if it is loaded from anything else.
        attributes: loaded from that, one after the other.
    """

    root: str | None
    attributes: tuple[str, ...]


def called(frame: FrameType) -> StackFrame | None:
    """Return a stack frame for the C function that an innermost frame is calling.

    Returns:
        ``None`` where it calls none, or one that is not named.
    """
    try:
        function = _called_by_offset(frame.f_code).get(frame.f_lasti)
        name = None if function is None else _name(function, frame.f_globals)
    except Exception as error:  # attributes of the application's objects are looked up
        raise_if_of_host(error)
        return None
    return None if name is None else StackFrame("", 0, name, False)


@functools.lru_cache(maxsize=_MAX_CODES)
def _called_by_offset(code: CodeType) -> Mapping[int, _Called]:
    """Return the function of each call instruction, by bytecode offset."""
    by_offset: dict[int, _Called] = {}
    by_start: dict[tuple[Any, Any], _Called] = {}
    value: _Called | None = None  # of the previous instruction, where that loads a variable
    for step in dis.get_instructions(code):
        start = None if step.positions is None else step.positions[::2]
        if start is None or None in start:
            continue
        loaded, value = value, None
        if step.opname in _LOADS:
            value = by_start[start] = _Called(step.argval, ())
        elif step.opname.startswith(_LOCALS):
            value = _Called(None, ())
        elif step.opname in _ATTRIBUTES:
            root, attributes = by_start.get(start, _Called(None, ()))
            value = by_start[start] = _Called(root, (*attributes, step.argval))
        elif step.opname == _WITH:
            if loaded is not None:
                by_offset[step.offset] = _Called(loaded.root, (*loaded.attributes, "__enter__"))
        elif step.opname == "PRECALL" and start in by_start:
            by_offset[step.offset] = by_start[start]  # calls functions written in C, in Python 3.11
        elif step.opname.startswith("CALL") and start in by_start:
            by_offset[step.offset] = by_start[start]
            by_start[start] = _Called(None, ())  # its result is not known
    return by_offset


def _name(function: _Called, variables: Mapping[str, Any]) -> str | None:
    """Return the name of a C function, ``None`` if it is not one that is named."""
    root, attributes = function
    if root is None:
        return _METHODS.get(attributes[-1]) if attributes else None
    value = variables[root] if root in variables else vars(builtins).get(root)
    for attribute in attributes[:-1]:
        value = _variables(value).get(attribute)
        if value is None:  # an attribute of an object of the application
            return _METHODS.get(attributes[-1])
    return _name_of(_variables(value).get(attributes[-1]) if attributes else value)


def _variables(value: object) -> Mapping[str, Any]:
    """Return the variables of a module, or the methods of any other object, without running its code."""
    if issubclass(type(value), ModuleType):
        variables: Mapping[str, Any] = object.__getattribute__(value, "__dict__")
        return variables
    return _CLASS_VARIABLES(type(value))


def _name_of(value: object) -> str | None:
    """Return the name of a C function or method, ``None`` if it is not one that is named."""
    if type(value) is Builtin:
        value = value.original
    if type(value) is MethodDescriptorType:
        module, name = value.__objclass__.__module__, value.__qualname__
    elif type(value) is BuiltinFunctionType:
        module, name = value.__module__ or "", value.__name__.removeprefix("openssl_")
    else:
        return None
    shown = _MODULES.get(module.partition(".")[0])
    if shown == "threading" and name.endswith(_ACQUIRE):
        return LOCK
    return _FUNCTIONS.get((module, name)) if shown is None else f"{shown}.{name}"
