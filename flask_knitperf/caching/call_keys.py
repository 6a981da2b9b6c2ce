"""Keys of the calls of one function, and the source of the wrapper that computes them.

The wrapper of a cached function is compiled with the parameters of the function itself. So Python binds
the arguments, in C: all spellings of a call arrive in one form, a call that the function would refuse is
refused with the same message, and a hit needs no further binding. Arguments whose types are in
:data:`.keys.PLAIN` are the key; others are encoded.
"""

from __future__ import annotations

import inspect
import keyword
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from ..core.errors import CacheKeyError, KnitPerfError
from ..core.host_exceptions import raise_if_of_host
from ..metrics.catalogue import PartKind
from ..recording.span import CURRENT, Span
from .instances import InstanceNumbers
from .keys import PLAIN, Encoding
from .region import Overhead

OF_THIS_PROCESS = (..., ...)
"""End of a key that has another meaning in other processes."""
_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_STARS: dict[Any, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}
_NO_DEFAULT = object()
_PREFIX = "_knitperf_"

_WRAPPER = """
{define} {name}({parameters}):
    {key}
    {p}entry = {p}get({p}key)
    if (
        {p}entry is not None and {p}entry.epoch == {p}words[{p}index]
        and {p}now() < {p}entry.until and not {p}bypasses{unchanged}
    ):
        {p}entry.uses += 1
        if {p}entry.uses >= {p}entry.verify_at:
            {p}verify({p}entry, {p}key, {args}, {kwargs})
        {p}span = {p}current()
        if {p}span is not None:
            {p}parts = {p}span.parts
            if {p}parts is not None and {p}hit in {p}parts:
                {p}parts[{p}hit][0] += 1
            else:
                {p}count({p}span, {p}hit)
        {p}copy = {p}entry.copy
        return {p}entry.value if {p}copy is None else {p}copy({p}entry.value)
    return {wait}{p}miss({p}key, {args}, {kwargs})
"""
_KEY = """
def {name}({parameters}):
    {key}
    return {p}key
"""
_PLAIN = """if {plain}:
        {p}key = ({values})
    else:
        {p}key = {p}encode({named})"""


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """Parts of a call that are its key.

    Attributes:
        key: returns the key of a call in place of its arguments.
        ignore: names of parameters that are not in the key.
        vary: functions without arguments, whose results are part of the key.
    """

    key: Callable[..., Any] | None = None
    ignore: frozenset[str] = frozenset()
    vary: tuple[Callable[[], Any], ...] = ()


class CallKeys:
    """Keys of the calls of one function.

    Args:
        function: the function.
        options: the parts of a call that are its key.
        overhead: to which the time of keys by content is added.

    Attributes:
        instances: numbers of the instances whose method it is.
        is_method: whether its first argument is an instance, which is part of the key by identity; one
            that cannot be referenced weakly is by its content.

    Raises:
        KnitPerfError: ``ignore`` names no parameter of the function.
    """

    def __init__(
        self, function: Callable[..., Any], options: KeyOptions, overhead: Overhead | None = None
    ) -> None:
        self.function, self.options = function, options
        self._overhead = Overhead() if overhead is None else overhead
        self.instances = InstanceNumbers()
        self.signature = _signature(function)
        parameters = self.signature.parameters
        self._kinds = {name: parameter.kind for name, parameter in parameters.items()}
        unknown = options.ignore - set(parameters)
        if unknown:
            raise KnitPerfError(
                f"ignore names {', '.join(sorted(unknown))}, no parameter of {name_of(function)}; "
                f"it has {', '.join(parameters) or 'none'}"
            )
        self._named = [name for name in parameters if name not in options.ignore]
        self.is_method = (
            options.key is None
            and self._named[:1] == ["self"]
            and parameters["self"].kind
            in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        )
        self._variable = {
            name for name in self._named if options.key is None and parameters[name].kind in _VARIABLE
        }  # fmt: skip

    def encode(self, *values: Any) -> Hashable:
        """Return the key of a call, and add the time that this takes to the overhead.

        Args:
            values: see :meth:`_encode`.

        Raises:
            CacheKeyError: one of them has no content that could be a key.
        """
        began = time.perf_counter()
        try:
            return self._encode(*values)
        finally:
            self._overhead.seconds += time.perf_counter() - began

    def _encode(self, *values: Any) -> Hashable:
        """Return the key of a call.

        Args:
            values: those of ``vary``, then of the parameters that are not ignored, else of ``key``.

        Raises:
            CacheKeyError: one of them has no content that could be a key.
        """
        plain: list[Any] = []
        options_key = self.options.key
        instance: int | None = None
        encoding = Encoding()
        for name, value in zip(self._names(), values, strict=True):
            if name in self._variable and not value:
                continue
            try:
                if self.is_method and name == self._named[0]:
                    instance = self.instances.number(value)
                    plain.insert(0, value if instance is None else instance)
                    encoding.add(plain[0])
                else:
                    plain.append(value)
                    encoding.add(value)
            except CacheKeyError as error:
                if options_key is None and value is self._default(name):
                    encoding.parts.append(b"~")  # a default without content, such as a sentinel
                    continue
                raise CacheKeyError(self._message(*self._inner(name, value, error))) from None
        by_content = self.is_method and instance is None
        if not by_content and all(type(value) in PLAIN for value in plain):
            return tuple(plain)
        digest = encoding.digest(), ...  # no plain key holds an ellipsis
        if instance is not None:
            return (instance, *digest)
        return digest if encoding.shareable else (*digest, *OF_THIS_PROCESS)

    def of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        """Return the key of a call with these arguments.

        Raises:
            CacheKeyError: an argument has no content that could be a key.
            TypeError: the function does not accept the arguments.
        """
        varied = [vary() for vary in self.options.vary]
        if self.options.key is not None:
            return self.encode(*varied, self.options.key(*args, **kwargs))
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return self.encode(*varied, *(bound.arguments[name] for name in self._named))

    def vary(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> set[tuple[str, str]]:
        """Call the functions whose results are in the key of a call, for what they read.

        Returns:
            Reads that they cover as a whole, by their attribute ``covers``.
        """
        covered: set[tuple[str, str]] = set()
        for vary in self.options.vary:
            vary()
            covered |= getattr(vary, "covers", set())
        if self.options.key is not None:
            self.options.key(*args, **kwargs)
        return covered

    def _names(self) -> list[str]:
        varied = [f"vary {number}" for number in range(len(self.options.vary))]
        return varied + (["key"] if self.options.key is not None else self._named)

    def _default(self, name: str) -> Any:
        parameter = self.signature.parameters.get(name)
        return _NO_DEFAULT if parameter is None else parameter.default

    def _inner(self, name: str, value: Any, error: CacheKeyError) -> tuple[str, CacheKeyError]:
        """Return the argument within ``**kwargs`` that has no key, with its error."""
        if self._kinds.get(name) is Parameter.VAR_KEYWORD:
            for inner, argument in value.items():
                try:
                    Encoding().add(argument)
                except CacheKeyError as inner_error:
                    return inner, inner_error
        return name, error

    def _message(self, name: str, error: CacheKeyError) -> str:
        function = name_of(self.function)
        if name in self._names() and name not in self._kinds:
            return f"the result of {name} for {function} has no cache key: {error}"
        return (
            f"argument {name!r} of {function} has no cache key: {error}. Pass ignore={(name,)!r} if "
            "the result does not depend on it, or key= with a function of the arguments whose "
            "result is the key"
        )

    # -- the wrapper ---------------------------------------------------------------------------------

    def compile(self, environment: dict[str, Any], *, is_async: bool) -> Callable[..., Any]:
        """Return the wrapper of the function.

        Args:
            environment: globals of the wrapper: ``get``, ``words``, ``index``, ``now``, ``bypasses``,
                ``verify`` and ``miss``, without the prefix of its names. More are added.
            is_async: whether the wrapper is a coroutine function.
        """
        p, scope = _PREFIX, self._scope()
        scope |= {p + name: value for name, value in environment.items()}
        scope |= {
            f"{p}function": self.function, f"{p}code": getattr(self.function, "__code__", None),
            f"{p}defaults": getattr(self.function, "__defaults__", None), f"{p}current": CURRENT.get,
            f"{p}hit": PartKind.CACHE_HIT.value, f"{p}count": count,
        }  # fmt: skip
        args, kwargs = self._forwarded()
        source = _WRAPPER.format(
            p=p, define="async def" if is_async else "def", wait="await " if is_async else "",
            name=_identifier(self.function), parameters=self._parameters(scope),
            key=self._key_source(args, kwargs), args=args, kwargs=kwargs,
            unchanged=self._unchanged(),
        )  # fmt: skip
        return self._compiled(source, scope)

    def compile_key(self, encode: Callable[..., Hashable]) -> Callable[..., Hashable]:
        """Return a function that is called like the function itself, and returns the key of the call.

        Args:
            encode: called in the place of :meth:`encode`.
        """
        p, scope = _PREFIX, self._scope()
        scope[f"{p}encode"] = encode
        source = _KEY.format(
            p=p, name=_identifier(self.function), parameters=self._parameters(scope),
            key=self._key_source(*self._forwarded()),
        )  # fmt: skip
        return self._compiled(source, scope)

    def _scope(self) -> dict[str, Any]:
        """Return the globals of code that computes keys."""
        p = _PREFIX
        scope: dict[str, Any] = {
            f"{p}encode": self.encode, f"{p}type": type, f"{p}plain": PLAIN, f"{p}id": id,
            f"{p}numbers": self.instances.by_id.get, f"{p}of": self.options.key,
        }  # fmt: skip
        return scope | {f"{p}vary{n}": vary for n, vary in enumerate(self.options.vary)}

    def _compiled(self, source: str, scope: dict[str, Any]) -> Callable[..., Any]:
        exec(compile(source, f"<cached {name_of(self.function)}>", "exec"), scope)  # noqa: S102
        compiled: Callable[..., Any] = scope[_identifier(self.function)]
        return compiled

    def _unchanged(self) -> str:
        """Return the source of the test that no reloader has replaced the function's code."""
        p, function = _PREFIX, self.function
        if not hasattr(function, "__code__"):
            return ""
        source = f" and {p}function.__code__ is {p}code"
        if getattr(function, "__defaults__", None):
            source += f" and {p}function.__defaults__ is {p}defaults"
        return source

    def _parameters(self, scope: dict[str, Any]) -> str:
        """Return the source of the parameters; their defaults are put into a scope."""
        parts, previous = [], None
        for number, parameter in enumerate(self.signature.parameters.values()):
            if previous is Parameter.POSITIONAL_ONLY and parameter.kind is not previous:
                parts.append("/")
            if parameter.kind is Parameter.KEYWORD_ONLY and previous not in (
                Parameter.KEYWORD_ONLY, Parameter.VAR_POSITIONAL,
            ):  # fmt: skip
                parts.append("*")
            text = _STARS.get(parameter.kind, "") + parameter.name
            if parameter.default is not Parameter.empty:
                scope[f"{_PREFIX}default{number}"] = parameter.default
                text += f"={_PREFIX}default{number}"
            parts.append(text)
            previous = parameter.kind
        if previous is Parameter.POSITIONAL_ONLY:
            parts.append("/")
        return ", ".join(parts)

    def _forwarded(self) -> tuple[str, str]:
        """Return the source of the positional arguments and of the keyword arguments."""
        args, kwargs = "", ""
        for name, parameter in self.signature.parameters.items():
            if parameter.kind is Parameter.VAR_POSITIONAL:
                args += f"*{name}, "
            elif parameter.kind is Parameter.VAR_KEYWORD:
                kwargs += f"**{name}, "
            elif parameter.kind is Parameter.KEYWORD_ONLY:
                kwargs += f"{name!r}: {name}, "
            else:
                args += f"{name}, "
        return f"({args})", f"{{{kwargs}}}"

    def _key_source(self, args: str, kwargs: str) -> str:
        """Return the source that computes the key."""
        p = _PREFIX
        operands = [f"{p}varied{number}" for number in range(len(self.options.vary))]
        lines = [f"{value} = {p}vary{number}()" for number, value in enumerate(operands)]
        if self.options.key is not None:
            lines.append(f"{p}own = {p}of(*{args}, **{kwargs})")
            operands.append(f"{p}own")
        else:
            operands += self._named
        parts = [name for name in operands if name not in self._variable]
        tests = [f"not {name}" for name in operands if name in self._variable]
        if self.is_method:
            lines.append(f"{p}number = {p}numbers({p}id({self._named[0]}))")
            tests.append(f"{p}number is not None")
            parts.remove(self._named[0])
        tests += [f"{p}type({name}) in {p}plain" for name in parts]
        if self.is_method:
            parts.insert(0, f"{p}number")
        lines.append(_PLAIN.format(
            p=p, plain=" and ".join(tests) or "True", named=", ".join(operands),
            values="".join(f"{part}, " for part in parts),
        ))  # fmt: skip
        return "\n    ".join(lines)


def count(span: Span, name: str) -> None:
    """Count an event of the cache for a request, without time."""
    if not span.ended:
        span.add(name, 1, 0, 0)


def name_of(function: Callable[..., Any]) -> str:
    """Return the module and qualified name of a function."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or '?'}.{name}"


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the parameters of a function, ``*args, **kwargs`` where it does not reveal them."""
    try:
        return inspect.signature(function, follow_wrapped=False)
    except ValueError as error:  # it is written in C
        raise_if_of_host(error)
        return _ANY


_ANY = inspect.Signature([
    Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD),
])  # fmt: skip


def _identifier(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "")
    usable = name.isidentifier() and not keyword.iskeyword(name) and not name.startswith(_PREFIX)
    return name if usable else "cached"
