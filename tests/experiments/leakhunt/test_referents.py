"""Reading what objects refer to, without harm to the interpreter."""

from __future__ import annotations

import collections
import gc
import subprocess
import sys

from flask_knitperf.experiments.leakhunt.referents import referents


def test_referents_are_those_of_all_given_objects() -> None:
    first, second = object(), object()
    assert referents(([first], {"key": second})) == gc.get_referents([first], {"key": second})


def test_of_a_module_only_the_namespace_is_referred_to() -> None:
    [namespace] = referents((collections,))
    assert namespace is vars(collections)


def test_objects_of_an_application_with_coroutines_can_be_counted() -> None:
    """Python 3.12 frees the free list of ``_asyncio`` twice when its objects are referred to."""
    program = """
import asyncio, gc
from flask_knitperf.experiments.leakhunt.retainers import ContainerLengths, count_types
from flask_knitperf.experiments.leakhunt.retaining_path import retaining_path
async def wait():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future
asyncio.run(wait())
count_types()
ContainerLengths()
retaining_path([asyncio.Future])
gc.collect()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
