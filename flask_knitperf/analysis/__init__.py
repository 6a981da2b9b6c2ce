"""From numbers to sentences: what is slow, why, how sure that is, and what to do about it.

Everything here is a pure function of a table and the settings. Nothing looks at the clock, the
process or the application, so a report of last week is made by the same code as the live one, and
tests build tables directly.

``summary`` turns series into rows, ``causes`` divides a row's time, ``verdicts`` judges it,
``findings`` writes the sentences, ``scorecard`` holds it against the targets, ``report`` puts all
of it together, and ``memory`` does the same for memory.
"""

from __future__ import annotations
