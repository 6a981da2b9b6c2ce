"""Copies of exceptions, one for each caller that gets the error of another call's load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .instance_state import instance_dict, slots, static_base


def copy_of_exception(error: BaseException, copy: Callable[[Any], Any]) -> BaseException:
    """Return an equal exception that shares nothing that can be changed, without traceback and context.

    A shared one would grow: each raise adds frames, a context and perhaps notes. Its constructor is not
    called, which may have other parameters: the state is that of the built-in class that it is derived
    from, and of its attributes.

    Args:
        error: the exception.
        copy: returns a copy of an argument or attribute, itself if it is immutable.

    Raises:
        Exception: an argument or an attribute cannot be copied.
    """
    kind: Any = type(error)
    base: Any = static_base(kind)
    _, arguments, *state = base.__reduce__(error)
    initial = copy(arguments)
    copied: BaseException = base.__new__(kind, *initial)
    base.__init__(copied, *initial)
    copied.args = copy(error.args)
    own = instance_dict(error)
    for name, value in (state[0] if state and state[0] else {}).items():
        if name not in own:  # a member of the built-in class
            object.__setattr__(copied, name, copy(value))
    instance_dict(copied).update({name: copy(value) for name, value in own.items()})
    for descriptor, value in slots(error):
        descriptor.__set__(copied, copy(value))
    cause = error.__cause__
    copied.__cause__ = None if cause is None else copy(cause)
    copied.__suppress_context__ = error.__suppress_context__
    return copied
