"""What a place tells the camera: where it may be and what is worth looking at."""

from __future__ import annotations

from dataclasses import dataclass

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Stage:
    """The camera's part of a place.

    Attributes:
        name: kind of place, for example `library`.
        low: low corner of the volume the camera stays in, metres.
        high: high corner.
        focuses: points worth looking at.
        reach: how far the camera moves along its path, metres (lowest, highest).
        clearance: least distance from the camera to any surface.
        paths: names of the camera paths that suit the place.
    """

    name: str
    low: Triple
    high: Triple
    focuses: tuple[Triple, ...]
    reach: tuple[float, float]
    clearance: float
    paths: tuple[str, ...]
