"""What a place tells the camera: where it may go and what is worth looking at."""

from __future__ import annotations

from dataclasses import dataclass

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Stage:
    """Constraints on the camera in a place.

    Attributes:
        name: kind of place, e.g. `library`.
        low: low corner of the camera's volume, metres.
        high: high corner.
        focuses: points worth looking at.
        reach: minimum and maximum length of the camera path, metres.
        clearance: minimum distance from the camera to any surface, metres.
        paths: names of the camera paths that suit the place.
    """

    name: str
    low: Triple
    high: Triple
    focuses: tuple[Triple, ...]
    reach: tuple[float, float]
    clearance: float
    paths: tuple[str, ...]
