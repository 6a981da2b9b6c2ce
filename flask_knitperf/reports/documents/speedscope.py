"""The file format of speedscope, of its type "sampled" (https://www.speedscope.app)."""

from typing import Literal, NotRequired, TypedDict


class SpeedscopeFrame(TypedDict):
    """One frame of a stack; ``line`` of application code only."""

    name: str
    file: str
    line: NotRequired[int]


class SharedFrames(TypedDict):
    """Frames that samples refer to by their index."""

    frames: list[SpeedscopeFrame]


class SampledProfile(TypedDict):
    """Samples as lists of frames, outermost first, with a weight each."""

    type: Literal["sampled"]
    name: str
    unit: Literal["microseconds"]
    startValue: int
    endValue: int
    samples: list[list[int]]
    weights: list[int]


_Schema = TypedDict("_Schema", {"$schema": str})


class SpeedscopeFile(_Schema):
    """A file that speedscope opens."""

    name: str
    exporter: str
    shared: SharedFrames
    profiles: list[SampledProfile]
