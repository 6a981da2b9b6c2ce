"""Runs code in a sub-interpreter of a new process, as mod_wsgi has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_MAIN = """
import sys
{before}
sys.stdout.flush()
new = sys.version_info >= (3, 13)
if new:
    import _interpreters as interpreters
else:
    import _xxsubinterpreters as interpreters
number = interpreters.create("legacy") if new else interpreters.create(isolated=False)
failure = interpreters.run_string(number, {code!r})
assert failure is None, failure
sys.stdout.flush()
import os
os._exit(0)  # extension modules may crash when a sub-interpreter is destroyed
"""


def in_subinterpreter(code: str, before: str = "") -> str:
    """Return the output of code.

    Args:
        code: runs in the sub-interpreter.
        before: runs in the main one before.
    """
    code = f"import sys\nsys.path.insert(0, {str(_ROOT)!r})\n{code}\nsys.stdout.flush()\n"
    process = subprocess.run(
        [sys.executable, "-c", _MAIN.format(before=before, code=code)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()
