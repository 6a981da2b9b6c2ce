"""The former path of the fast path, which the documentation of 0.1 named."""

from __future__ import annotations

import pytest

from flask_knitperf.recording import fastpath


def test_the_former_path_works_and_warns() -> None:
    from flask_knitperf.core import passage

    with pytest.warns(DeprecationWarning, match=r"recording\.fastpath"):
        assert passage.COMPILED is fastpath.COMPILED


def test_an_unknown_name_is_an_error() -> None:
    from flask_knitperf.core import passage

    with pytest.raises(AttributeError):
        _ = passage.nothing_of_this_name
