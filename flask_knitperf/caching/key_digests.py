"""Digests of the keys of one function, equal in all processes that would load equal values for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from ..core.errors import CacheKeyError
from .call_keys import OF_THIS_PROCESS
from .code_identity import NotShareable
from .keys import Encoding


class KeyDigests:
    """Digests of keys.

    Args:
        namespace: of the function.
        identify: returns a value with content that processes have in common only if they would load
            equal values.
        variables: returns a digest of the variables that the function encloses, ``None`` if it has none.
    """

    def __init__(
        self, namespace: str, identify: Callable[[], Hashable],
        variables: Callable[[], bytes] | None = None,
    ) -> None:  # fmt: skip
        self._namespace, self._identify, self._variables = namespace, identify, variables
        self._identity: bytes | None = None
        self._enclosed: bytes | None = None  # at the time of its identity

    def of(self, key: Hashable) -> bytes | None:
        """Return the digest of a key, ``None`` if it has a meaning in this process alone.

        Raises:
            NotShareable: no value of the function can be shared.
        """
        if isinstance(key, tuple) and key[-len(OF_THIS_PROCESS) :] == OF_THIS_PROCESS:
            return None
        encoding = Encoding()
        try:
            if self._identity is None:
                self._enclosed = None if self._variables is None else self._variables()
                self._identity = _encoded((self._namespace, self._identify()))
            elif self._variables is not None and self._variables() != self._enclosed:
                raise NotShareable("a variable that it encloses was changed")
            encoding.add((self._identity, key))
        except CacheKeyError:
            return None
        return encoding.digest() if encoding.shareable else None

    def forget(self) -> None:
        """Compute the identity again: the code was replaced."""
        self._identity = None


def _encoded(identity: Hashable) -> bytes:
    """Return the digest of an identity, which is a part of every key.

    Raises:
        CacheKeyError: it has a part without content.
        NotShareable: it has another meaning in other processes.
    """
    encoding = Encoding()
    encoding.add(identity)
    if not encoding.shareable:
        raise NotShareable("its options have another meaning in other processes")
    return encoding.digest()
