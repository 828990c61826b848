"""Line charts as inline SVG, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 420, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 20, 22
MAX_POINTS = 400
LOG_FROM = 30.0
"""Positive values whose extremes differ by more than this factor get a logarithmic axis."""


def chart(title: str, series: Mapping[str, Points], x_label: str = "step") -> str:
    """Plot values over steps.

    Args:
        title: title of the chart.
        series: name and points of each line, in ascending order of x; non-finite values
            are skipped.
        x_label: what x counts.

    Returns:
        HTML, empty if there is nothing to plot.
    """
    finite = {name: _thinned([p for p in points if math.isfinite(p[1])])
              for name, points in series.items()}  # fmt: skip
    finite = {name: points for name, points in finite.items() if points}
    if not finite:
        return ""
    axes = _Axes([point for points in finite.values() for point in points])
    parts = [axes.grid(x_label)]
    at = WIDTH - RIGHT
    for number, (name, points) in enumerate(finite.items()):
        parts.append(_line(axes, points, number))
        if len(finite) > 1:
            parts.append(
                f'<text class="key s{number % 4}" x="{at}" y="12" text-anchor="end">'
                f"{escape(name)}</text>"
            )
            at -= 7 * len(name) + 12
    return (
        f'<div class="chart"><h3>{escape(title)}</h3>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">'
        f"{''.join(parts)}</svg></div>"
    )


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers in [low, high], in steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def short(value: float, step: float | None = None) -> str:
    """Format a number briefly: 12000 becomes 12k.

    Args:
        value: the number.
        step: spacing of neighbouring ticks, which sets the number of digits.
    """
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:g}{letter}"
    digits = 4 if abs(value) >= 1000 else 3
    if step and value:
        needed = math.floor(math.log10(abs(value))) - math.floor(math.log10(step)) + 1
        digits = max(digits, needed)
    return f"{value:.{digits}g}"


class _Axes:
    """Maps values to positions on the chart."""

    def __init__(self, points: Points) -> None:
        xs, ys = zip(*points, strict=True)
        self.is_log = min(ys) > 0 and max(ys) > LOG_FROM * min(ys)
        self.x = _with_room(min(xs), max(xs), 0.0)
        values = [math.log10(y) for y in ys] if self.is_log else ys
        self.y = _with_room(min(values), max(values), 0.06)

    def place(self, x: float, y: float) -> tuple[float, float]:
        value = math.log10(y) if self.is_log else y
        share_x = (x - self.x[0]) / (self.x[1] - self.x[0])
        share_y = (value - self.y[0]) / (self.y[1] - self.y[0])
        right, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + share_x * right, TOP + (1 - share_y) * down

    def grid(self, x_label: str) -> str:
        """Grid lines and labels of both axes."""
        parts = []
        levels = self._levels()
        step = levels[1] - levels[0] if len(levels) > 1 else None
        for value in levels:
            y = self.place(self.x[0], value)[1]
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
                f"{short(value, step)}</text>"
            )
        for value in ticks(*self.x):
            x = LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)
            anchor = "end" if x > WIDTH - RIGHT - 20 else "middle"
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{short(value)}</text>'
            )
        parts.append(f'<text x="4" y="{HEIGHT - 6}">{escape(x_label)}</text>')
        if self.is_log:
            parts.append('<text x="4" y="12">log</text>')
        return "".join(parts)

    def _levels(self) -> list[float]:
        if not self.is_log:
            return ticks(*self.y)
        low, high = math.ceil(self.y[0]), math.floor(self.y[1])
        factors = (1.0,) if high - low >= 2 else (1.0, 2.0, 5.0)
        levels = [f * 10.0**power for power in range(low - 1, high + 1) for f in factors]
        return [level for level in levels if self.y[0] <= math.log10(level) <= self.y[1]]


def _with_room(low: float, high: float, share: float) -> tuple[float, float]:
    if high > low:
        room = share * (high - low)
        return low - room, high + room
    room = abs(low) * 0.1 or 1.0
    return low - room, high + room


def _line(axes: _Axes, points: Points, number: int) -> str:
    places = [axes.place(*point) for point in points]
    path = "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    kind = f"series s{number % 4}"
    dots = places if len(places) <= 12 else places[-1:]
    circles = "".join(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>'
                      for x, y in dots)  # fmt: skip
    last = points[-1]
    tip = f"<title>last: {short(last[1])} at {short(last[0])}</title>"
    return f'<g><path class="{kind}" d="{path}"/>{circles}{tip}</g>'


def _thinned(points: Points) -> Points:
    """Reduce a curve to `MAX_POINTS` means of neighbouring points; keeps the last point."""
    if len(points) <= MAX_POINTS:
        return points
    size = math.ceil(len(points) / MAX_POINTS)
    groups = [points[begin : begin + size] for begin in range(0, len(points) - 1, size)]
    means = [
        (math.fsum(x for x, _ in g) / len(g), math.fsum(y for _, y in g) / len(g)) for g in groups
    ]
    return [*means, points[-1]]
