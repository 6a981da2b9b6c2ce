"""Identity of the code behind a function, by which processes tell whether they would load equal values.

A value in a file outlives the process that loaded it, and may be found by a worker that runs other code.
So its key has a digest of everything that may make the same call return something else:

- the function, its defaults, and the values that it encloses,
- all code of the application that it can reach: the package of its module, and every other top-level
  module or package outside of the libraries that these import,
- the versions of Python and of the installed packages,
- the configuration of the application, the environment, and the working directory,
- the start of the system: clocks and file systems agree until then.

Hosts have other things in common than the processes of one: :meth:`CodeIdentity.of_hosts`.

Code is read from its files. A process may run older code than that, if a file was changed after the
process had started; such a process shares nothing until it is restarted.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from ..core.errors import CacheKeyError
from ..core.host_exceptions import raise_if_of_host
from ..core.process_start import started_at
from ..core.settings import PREFIX
from .keys import Encoding, function_digest

MAX_FILES = 5_000
"""Number of code files of an application above which its values are not shared."""
_GRAIN_S = 0.02  # of the times of files and of the start of a process
_SOURCES = (".py", ".pyw")
_CODE = (*_SOURCES, ".so", ".pyd")
_IMPORTS = re.compile(
    rb"(?:^|[;:])[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([^#;\n]+))"
    rb"|\b(?:import_module|__import__)[ \t]*\(\s*['\"]([\w.]+)",
    re.M,
)
_CONTINUATION = re.compile(rb"\\\r?\n")
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_OF_ONE_PROCESS = (
    "_", "COLORTERM", "COLUMNS", "FLASK_RUN_", "FORKED_BY_", "GUNICORN_", "INVOCATION_ID",
    "JOURNAL_STREAM", "LINES", "LISTEN_", "LS_COLORS", "MAINPID", "NOTIFY_SOCKET", "OLDPWD", "PWD",
    "PYTEST_", "SERVER_SOFTWARE", "SHLVL", "SSH_", "SYSTEMD_", "TERM", "UWSGI_", "WATCHDOG_",
    "WERKZEUG_", "XDG_SESSION_",
)  # fmt: skip
"""Beginnings of environment variables that a server or a terminal sets, the underscore as a whole."""
_OF_ONE_HOST = (
    "COMPUTERNAME", "DYNO", "ECS_CONTAINER_METADATA_URI", "FLY_ALLOC_ID", "FLY_MACHINE_ID", "HOST",
    "HOSTNAME", "NODE_IP", "NODE_NAME", "POD_IP", "POD_NAME", "POD_UID",
)  # fmt: skip
"""Environment variables that name a host."""
_MAX_DEPTH = 10
"""Nested containers of an option whose parts are looked at one by one."""
_SECRETS = frozenset({
    "SECRET_KEY", "SECRET_KEY_FALLBACKS", "KNITPERF_CACHE_URL", "KNITPERF_CACHE_SECRET",
})  # fmt: skip
"""Options that change no result; some applications create a key at each start."""


class NotShareable(Exception):  # noqa: N818 (not a fault)
    """Values of a function that other processes must not get; the reason."""


class CodeIdentity:
    """Identities of the functions of one application.

    Args:
        configuration: returns the configuration of the application.
        per_host: returns the names of options and environment variables that differ between hosts and
            change no result.
    """

    def __init__(
        self, configuration: Callable[[], Mapping[str, Any]] = dict,
        per_host: Callable[[], Iterable[str]] = tuple,
    ) -> None:  # fmt: skip
        self._configuration, self._per_host = configuration, per_host
        self._surroundings: bytes | None = None
        self._surroundings_of_hosts: bytes | None = None

    def of(self, function: Callable[..., Any]) -> bytes:
        """Return the digest of the code of a function and of its surroundings.

        Raises:
            NotShareable: it depends on something that is only in this process.
        """
        return self._digest(function, self.surroundings)

    def of_hosts(self, function: Callable[..., Any]) -> bytes:
        """Return the digest of the code of a function and of everything that its hosts have in common.

        The start of the system, the times of installations, our own options and names of hosts are not
        in it.

        Raises:
            NotShareable: it depends on something that is only in this process.
        """
        return self._digest(function, self.surroundings_of_hosts)

    def _digest(self, function: Callable[..., Any], surroundings: Callable[[], bytes]) -> bytes:
        code = getattr(function, "__code__", None)
        module = sys.modules.get(getattr(function, "__module__", None) or "")
        if not isinstance(code, CodeType) or module is None:
            raise NotShareable("it is not a function of a module")
        return hashlib.blake2b(
            function_digest(function) + enclosed_digest(function)
            + _application_digest(module.__name__.partition(".")[0]) + surroundings(),
            digest_size=16,
        ).digest()  # fmt: skip

    def surroundings(self) -> bytes:
        """Return the digest of the libraries, the configuration, the environment and the system.

        Raises:
            NotShareable: a package was installed after this process started.
        """
        known = self._surroundings
        if known is None:
            known = self._surroundings = _digest_of(
                _libraries(), sorted(self._options()), _environment(), os.getcwd(), _system_start()
            )
        return known

    def surroundings_of_hosts(self) -> bytes:
        """Return the digest of the libraries, the configuration and the environment.

        Raises:
            NotShareable: a package was installed after this process started.
        """
        known = self._surroundings_of_hosts
        if known is None:
            left_out = frozenset(self._per_host()).union(_OF_ONE_HOST)
            version, tag, installed = _libraries()
            known = self._surroundings_of_hosts = _digest_of(
                version, tag, sorted({name for name, _ in installed}),
                sorted(option for option in self._options(left_out) if not option.startswith(PREFIX)),
                [(name, value) for name, value in _environment() if name not in left_out], os.getcwd(),
            )  # fmt: skip
        return known

    def _options(self, left_out: frozenset[str] = frozenset()) -> Iterator[str]:
        for name, value in self._configuration().items():
            if name not in _SECRETS and name not in left_out:
                yield f"{name}={_text_of(value)}"


def enclosed_digest(function: Callable[..., Any]) -> bytes:
    """Return the digest of the defaults of a function and of the values that it encloses.

    Raises:
        NotShareable: one of them has no content that other processes could have.
    """
    encoding = Encoding()
    try:
        encoding.add((
            getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None),
            tuple(cell.cell_contents for cell in getattr(function, "__closure__", None) or ()),
        ))  # fmt: skip
    except (CacheKeyError, ValueError) as error:  # or an empty cell
        raise_if_of_host(error)
        raise NotShareable(f"it encloses a value without content: {error}") from error
    if not encoding.shareable:
        raise NotShareable("it encloses a value of this process")
    return encoding.digest()


def callable_digest(function: Callable[..., Any]) -> bytes:
    """Return the digest of a function and of what it encloses, or of a class or function written in C.

    Raises:
        NotShareable: it is an object without content, or encloses one.
    """
    if isinstance(getattr(function, "__code__", None), CodeType):
        return function_digest(function) + enclosed_digest(function)
    encoding = Encoding()
    try:
        encoding.add(function)
    except CacheKeyError as error:
        raise NotShareable(f"its key is found by a {type(function).__qualname__}") from error
    if not encoding.shareable:
        raise NotShareable("its key is found by a class of this process")
    return encoding.digest()


def _text_of(value: Any, depth: int = 0) -> str:
    """Return the content of an option; an object without content counts by its type."""
    encoding = Encoding()
    try:
        encoding.add(value)
    except CacheKeyError:
        encoding.shareable = False
    if encoding.shareable:
        return encoding.digest().hex()
    name = type(value).__qualname__
    if depth > _MAX_DEPTH or type(value) not in (dict, list, tuple):
        return name
    items = [*value.items()] if type(value) is dict else value
    return f"{name}({','.join(_text_of(item, depth + 1) for item in items)})"


def _digest_of(*parts: Any) -> bytes:
    return hashlib.blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=16).digest()


# -- the application's code ------------------------------------------------------------------------


class _Application(NamedTuple):
    """The code that a top-level module can reach.

    Attributes:
        digest: of its content.
        paths: of its files.
    """

    digest: bytes
    paths: tuple[Path, ...]


def _application_digest(name: str) -> bytes:
    """Return the digest of a top-level module, and of all code outside of the libraries that it imports.

    Raises:
        NotShareable: a file was changed since this process started, or there are too many.
    """
    application = _application(name)
    for path in application.paths:
        _refuse_changed(path)
    return application.digest


@cache
def _application(name: str) -> _Application:
    digest, paths = hashlib.blake2b(digest_size=16), []
    spec = getattr(sys.modules.get(name), "__spec__", None)  # the true name after "python -m"
    pending = list({name: 0, name if spec is None else spec.name.partition(".")[0]: 0})
    seen = set(pending)
    while pending:
        name = pending.pop()
        for relative, path in _files(name):
            paths.append(path)
            if len(paths) > MAX_FILES:
                raise NotShareable(f"the application has more than {MAX_FILES:,} files of code")
            source = _source(path)
            digest.update(f"{name}/{relative}:{len(source)}:".encode("utf-8", "backslashreplace"))
            digest.update(source)
            for imported in sorted(_imported(source) - seen) if path.suffix in _SOURCES else ():
                seen.add(imported)
                pending.append(imported)
    return _Application(digest.digest(), tuple(paths))


def _source(path: Path) -> bytes:
    """Return the content of a file that this process may have loaded.

    Raises:
        NotShareable: it was changed since.
    """
    _refuse_changed(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise_if_of_host(error)
        raise NotShareable(f"{path} cannot be read") from error


def _refuse_changed(path: Path) -> None:
    """Raise for a file that has other content, or is another one, than when the process started.

    Raises:
        NotShareable: it is.
    """
    try:
        status, link = path.stat(), path.lstat()
    except OSError as error:
        raise_if_of_host(error)
        raise NotShareable(f"{path} cannot be read") from error
    if max(status.st_mtime, status.st_ctime, link.st_ctime) > started_at() - _GRAIN_S:
        raise NotShareable(f"{path} was changed after the process started")


def _refuse_redirected(path: Path) -> None:
    """Raise for a path whose symbolic links led elsewhere when the process started.

    Raises:
        NotShareable: one of them was set since.
    """
    for part in (path, *path.parents):
        if part.is_symlink():
            _refuse_redirected(part.parent / os.readlink(part))
            if part.lstat().st_ctime > started_at() - _GRAIN_S:
                raise NotShareable(f"{part} was changed after the process started")


def _imported(source: bytes) -> set[str]:
    """Return the top-level modules that a source imports, and perhaps others that its texts mention."""
    names: set[str] = set()
    for match in _IMPORTS.finditer(_CONTINUATION.sub(b" ", source)):
        imported = match[1] or match[2] or match[3]
        names.update(
            part.split()[0].partition(b".")[0].decode("utf-8", "replace")
            for part in imported.split(b",") if part.split()
        )  # fmt: skip
    return {name for name in names if name.isidentifier()}


def _files(name: str) -> Iterator[tuple[str, Path]]:
    """Yield the code files of a top-level module outside of the libraries, by their relative paths.

    Raises:
        NotShareable: the module may have been loaded from other files, or from compiled ones.
    """
    for root in _roots(name):
        _refuse_redirected(root)
        if root.is_file():
            yield root.name, root
            continue
        visited: set[str] = set()
        for folder, folders, files in os.walk(root, followlinks=True):
            if os.path.islink(folder):
                _refuse_redirected(Path(folder))
            real = os.path.realpath(folder)
            folders[:] = [] if real in visited else sorted(  # a link may lead to a folder around it
                one for one in folders
                if one not in _SKIPPED_FOLDERS and not one.startswith(".")
                and not os.path.exists(os.path.join(folder, one, "pyvenv.cfg"))
            )  # fmt: skip
            visited.add(real)
            for file in sorted(files):
                path = Path(folder, file)
                if file.endswith(_CODE):
                    yield str(path.relative_to(root)), path
                elif file.endswith(".pyc") and not path.with_suffix(".py").exists():
                    raise NotShareable(f"{path} has no source")


def _roots(name: str) -> list[Path]:
    """Return the files or folders of a top-level module; none for a library or an unknown name.

    Raises:
        NotShareable: it was not loaded from files, or one of them is gone.
    """
    module = sys.modules.get(name)
    folders = list(getattr(module, "__path__", None) or ())
    file = getattr(module, "__file__", None)
    if module is None:
        try:
            spec = importlib.util.find_spec(name)  # of a top-level module: imports nothing
        except (ImportError, ValueError, AttributeError) as error:
            raise_if_of_host(error)
            return []
        if spec is None:
            return []
        folders = list(spec.submodule_search_locations or ())
        file = spec.origin if spec.has_location else None
    paths = folders or ([file] if file else [])
    if not paths and name == "__main__":
        raise NotShareable("it was not loaded from a file")
    own = [path for path in paths if not _is_library(path)]
    for part in _submodules(name) if own else ():
        _existing(part)
    return [_existing(path) for path in own]


def _submodules(name: str) -> Iterator[str]:
    """Yield the files of the modules of a package that are loaded."""
    for loaded, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) if loaded.startswith(f"{name}.") else None
        if isinstance(file, str):
            yield file


def _existing(path: str) -> Path:
    """Return the absolute path of a file or folder, that of the archive for one within an archive.

    Raises:
        NotShareable: it does not exist.
    """
    whole = Path(path).absolute()
    for part in (whole, *whole.parents):
        if part.is_file() or (part is whole and part.is_dir()):
            return part
    raise NotShareable(f"{path} was removed after the process started")


def _is_library(path: str) -> bool:
    whole = os.path.abspath(path)
    return not _SKIPPED_FOLDERS.isdisjoint(Path(whole).parts) or (whole + os.sep).startswith(
        (*_STANDARD, _OURS)
    )


_STANDARD = tuple({
    form(sysconfig.get_path(name)) + os.sep
    for name in ("stdlib", "platstdlib") for form in (os.path.abspath, os.path.realpath)
})  # fmt: skip
_OURS = str(Path(__file__).resolve().parent.parent) + os.sep


# -- its surroundings --------------------------------------------------------------------------------


def _libraries() -> list[Any]:
    """Return the versions of Python and of all installed packages, with the time of their installation.

    Raises:
        NotShareable: one was installed after this process started.
    """
    installed: set[tuple[str, int]] = set()
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                infos = [one for one in entries if one.name.endswith((".dist-info", ".egg-info"))]
            installed.update((one.name, one.stat().st_mtime_ns) for one in infos)
        except OSError as error:  # an archive, or a folder that does not exist
            raise_if_of_host(error)
    for name, time_ns in installed:
        if time_ns / 1e9 > started_at() - _GRAIN_S:
            raise NotShareable(f"{name} was installed after the process started")
    return [sys.version, sys.implementation.cache_tag, sorted(installed)]


def _environment() -> list[tuple[str, str]]:
    one, *beginnings = _OF_ONE_PROCESS
    return sorted(
        (name, value) for name, value in os.environ.items()
        if name != one and not name.startswith(tuple(beginnings))
    )  # fmt: skip


def _system_start() -> str:
    """Return a text that differs each time the system is started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:  # another system than Linux
        raise_if_of_host(error)
        import psutil

        return f"{psutil.boot_time():.0f}"
