"""Command lines of the servers that Flask applications run under, each with two processes if it can.

A server that is not installed has a reason instead; nothing is left out silently.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import psutil

from . import machine
from .client import MIX, RequestKind

_APP = "benchmarks.harness.apps"
_MODULES = Path("/usr/lib/apache2/modules")
_USER = "nobody"  # for servers that refuse to run as root, or give it up
Command = Callable[[Path, int], Sequence[str]]
_WITH_BODIES = tuple(
    kind for kind in MIX if kind.method not in ("HEAD", "OPTIONS") and kind.path != "/empty"
)


class Recipe(NamedTuple):
    """A way to run a server.

    Attributes:
        name: of the row.
        package: the distribution whose version is published, or a package of Debian.
        workers: processes that serve.
        command: returns the command line, from a folder and a port.
        respawns: whether it replaces a worker that was killed.
        mix: requests that it passes on correctly.
    """

    name: str
    package: str
    workers: int
    command: Command
    respawns: bool = True
    mix: tuple[RequestKind, ...] = MIX

    def missing(self) -> str:
        """Return why it cannot be run on this machine, empty if it can."""
        if self.package in _DEBIAN:
            return _DEBIAN[self.package].missing()
        return "" if self.version() else f"{self.package} is not installed (extra: peers)"

    def version(self) -> str:
        """Return the version, empty if it is not installed."""
        if self.package in _DEBIAN:
            return _DEBIAN[self.package].version()
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""


def _python(*words: str) -> Command:
    """Return the command of ``python -m``; ``{port}`` stands for the port."""
    return lambda _, port: (
        sys.executable, "-m", *(word.format(port=port) for word in words)
    )  # fmt: skip


def gunicorn(*options: str) -> Command:
    """Return the command of gunicorn's script: ``python -m gunicorn`` cannot replace itself."""
    return lambda _, port: (
        sys.executable, str(_script("gunicorn")), f"--bind=127.0.0.1:{port}", "--workers=2",
        "--log-level=warning", "--no-control-socket", *options, f"{_APP}:served()",
    )  # fmt: skip


def _script(name: str) -> Path:
    """Return the path of a script that a package installed."""
    return Path(sysconfig.get_path("scripts")) / name


def waitress_on(host: str) -> Command:
    """Return the command of waitress on an address."""
    return _python("waitress", f"--listen={host}:{{port}}", "--call", f"{_APP}:served")


def _uwsgi(*options: str) -> Command:
    return lambda _, port: (
        str(_script("uwsgi")), f"--http-socket=127.0.0.1:{port}",
        f"--virtualenv={sys.prefix}", f"--module={_APP}:served()", "--processes=2",
        "--enable-threads", "--die-on-term", "--disable-logging", "--post-buffering=8192", *options,
    )  # fmt: skip


def _uwsgi_of_debian(*options: str) -> Command:
    """Return the command of Debian's uWSGI, which gives up root after its start."""

    def command(folder: Path, port: int) -> Sequence[str]:
        _give(folder)
        words = [word for word in _uwsgi(*options)(folder, port)[1:] if "virtualenv" not in word]
        return (_DEBIAN[_UWSGI].path(), "--plugin=python3", f"--uid={_USER}", "--gid=nogroup",
                f"--pythonpath={sysconfig.get_path('purelib')}", *words)  # fmt: skip

    return command


def _give(folder: Path) -> None:
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, _USER, "nogroup")


def _hypercorn(factory: str, interface: str = "") -> Command:
    return _python("hypercorn", "--bind=127.0.0.1:{port}", "--workers=2",
                   f"{interface}{_APP}:{factory}")  # fmt: skip


def _uvicorn(factory: str) -> Command:
    return _python("uvicorn", "--factory", "--port={port}", "--workers=2", "--log-level=warning",
                   f"{_APP}:{factory}")  # fmt: skip


def mod_wsgi(*daemon: str, group: str = "%{GLOBAL}") -> Command:
    """Return the command of an Apache that serves the application.

    Args:
        daemon: options of ``WSGIDaemonProcess``; none serves in Apache's own processes.
        group: the application group, empty for a sub-interpreter per application.
    """
    script = machine.ROOT / "benchmarks" / "harness" / "entry.py"
    return lambda folder, port: apache(folder, {port: script}, daemon, group)


def apache(
    folder: Path, sites: Mapping[int, Path], daemon: Sequence[str], group: str
) -> Sequence[str]:
    """Write the configuration of an Apache; return its command line.

    Args:
        folder: for its files. The daemon's user owns it from now on.
        sites: the script of each port.
        daemon: options of ``WSGIDaemonProcess``; none serves in Apache's own processes.
        group: the application group, empty for a sub-interpreter per application.
    """
    modules = ("mpm_event" if daemon else "mpm_prefork", "authz_core", "wsgi")
    paths = f"{machine.ROOT}:{sysconfig.get_path('purelib')}"
    lines = [
        f'ServerRoot "{folder}"', f"PidFile {folder}/httpd.pid", "ServerName localhost",
        *(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in modules),
        "ErrorLog /dev/stderr", "LogLevel warn", f"User {_USER}", "Group nogroup",
        f"WSGISocketPrefix {folder}/wsgi", "WSGIPassAuthorization On",
        "<Directory />", "Require all granted", "</Directory>",
    ]  # fmt: skip
    if daemon:
        lines += [f"WSGIDaemonProcess site python-path={paths} {' '.join(daemon)}",
                  "WSGIProcessGroup site"]  # fmt: skip
    else:
        lines += [f"WSGIPythonPath {paths}", "StartServers 2", "MinSpareServers 2",
                  "MaxSpareServers 2", "ServerLimit 2", "MaxRequestWorkers 2"]  # fmt: skip
    if group:
        lines.append(f"WSGIApplicationGroup {group}")
    for port, script in sites.items():
        lines += [f"Listen 127.0.0.1:{port}", f"<VirtualHost 127.0.0.1:{port}>",
                  f"WSGIScriptAlias / {script}", "</VirtualHost>"]  # fmt: skip
    (folder / "httpd.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _give(folder)
    return MOD_WSGI.path(), "-f", str(folder / "httpd.conf"), "-DFOREGROUND"


class Debian(NamedTuple):
    """A server that Debian packages, with a module for Debian's Python.

    Attributes:
        package: to install.
        program: its name.
        module: the module's path, which is linked to a Python.
    """

    package: str
    program: str
    module: str

    def path(self) -> str:
        """Return the path of the program, empty if it is not installed."""
        return shutil.which(self.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""

    def missing(self) -> str:
        """Return why it cannot be run, empty if it can."""
        python = sysconfig.get_python_version()
        if not self.path() or not Path(self.module).exists():
            return f"it is not installed (Debian: apt-get install {self.package})"
        if f"libpython{python}" not in _output("ldd", self.module):
            return f"Debian's is not built for Python {python}"
        if psutil.Process().username() != "root":
            return "only root can start processes of another user"
        readable = subprocess.run(
            ["test", "-r", str(machine.ROOT / "benchmarks")], user=_USER, check=False
        )
        return "" if readable.returncode == 0 else f"{_USER} may not read {machine.ROOT.name}"

    def version(self) -> str:
        """Return the version, empty if it is not installed."""
        match = re.match(r"[\d.]+", _output("dpkg-query", "-W", "-f=${Version}", self.package))
        return match[0] if match else ""


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


_MOD_WSGI = "libapache2-mod-wsgi-py3"
_UWSGI = "uwsgi-plugin-python3"
_DEBIAN = {
    _MOD_WSGI: Debian(_MOD_WSGI, "apache2", f"{_MODULES}/mod_wsgi.so"),
    _UWSGI: Debian(_UWSGI, "uwsgi-core", "/usr/lib/uwsgi/plugins/python3_plugin.so"),
}
MOD_WSGI = _DEBIAN[_MOD_WSGI]
DAEMON = ("processes=2", "threads=4", "display-name=%{GROUP}")
RECIPES = (
    Recipe("gunicorn, sync", "gunicorn", 2, gunicorn()),
    Recipe("gunicorn, gthread", "gunicorn", 2, gunicorn("--worker-class=gthread", "--threads=4")),
    Recipe("gunicorn, gevent", "gunicorn", 2, gunicorn("--worker-class=gevent")),
    Recipe("uWSGI", "uwsgi", 2, _uwsgi("--master", "--threads=2")),
    Recipe("uWSGI, auto-procname", "uwsgi", 2,
           _uwsgi("--master", "--auto-procname", "--lazy-apps")),
    Recipe("uWSGI, --uid and auto-procname", _UWSGI, 2,
           _uwsgi_of_debian("--master", "--auto-procname", "--lazy-apps")),
    Recipe("waitress", "waitress", 1, waitress_on("127.0.0.1")),
    Recipe("cheroot", "cheroot", 1,
           _python("cheroot", "--bind=127.0.0.1:{port}", "benchmarks.harness.entry")),
    Recipe("granian", "granian", 2,
           _python("granian", "--interface=wsgi", "--factory", "--port={port}", "--workers=2",
                   "--respawn-failed-workers", "--log-level=warning", f"{_APP}:served")),
    Recipe("hypercorn, a2wsgi", "hypercorn", 2, _hypercorn("through_a2wsgi()"), respawns=False),
    # its own WSGI answers responses without a body with status 500, whatever the application
    Recipe("hypercorn, WSGI", "hypercorn", 2, _hypercorn("served()", "wsgi:"), respawns=False,
           mix=_WITH_BODIES),
    Recipe("uvicorn, a2wsgi", "uvicorn", 2, _uvicorn("through_a2wsgi")),
    Recipe("uvicorn, asgiref", "uvicorn", 2, _uvicorn("through_asgiref")),
    Recipe("mod_wsgi, daemon", _MOD_WSGI, 2, mod_wsgi(*DAEMON)),
    Recipe("mod_wsgi, embedded", _MOD_WSGI, 2, mod_wsgi()),
    Recipe("mod_wsgi, sub-interpreter", _MOD_WSGI, 2, mod_wsgi(*DAEMON, group="")),
    Recipe("flask run", "flask", 1,
           _python("flask", f"--app={_APP}:served", "run", "--port={port}")),
)  # fmt: skip
"""The servers, in the order of their rows."""
