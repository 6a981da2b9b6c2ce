"""Hash function for the content of arrays and frames: xxHash where it is installed, else SHA-256.

xxHash is several times as fast. Two contents share one of its 128 bits by chance as rarely; it is not
made to withstand an attacker who chooses both contents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

new_hash: Callable[[], Any]
try:
    from xxhash import xxh3_128
except ImportError:
    new_hash = hashlib.sha256
else:
    new_hash = xxh3_128
