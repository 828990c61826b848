"""Self-contained HTML pages: headings, tables, images and line charts.

They follow the system's light or dark theme and contain no scripts.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' file: data:; "
    "base-uri 'none'; form-action 'none'"
)
"""Only styles and images are allowed, because names in a page come from untrusted data sets."""
STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #667085; --line: #e2e6ec; --page: #fff;
  --panel: #f7f8fa; --first: #2563c9; --second: #e07b1a; --third: #12886a; --fourth: #a23bb0 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2c3440; --page: #12161d; --panel: #1a2029;
    --first: #74a6ff; --second: #f2a65a; --third: #55c9a6; --fourth: #d08be0 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
p.note { color: var(--soft); margin: .2rem 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right }
td:first-child, th:first-child { text-align: left }
img { max-width: 100%; display: block; border-radius: 4px; background: #fff }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(33rem, 1fr)); gap: 1rem }
@media (max-width: 36rem) { .gallery { display: block } }
figure { margin: 1rem 0 } figcaption { color: var(--soft); margin: 0 0 .3rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .8rem;
  margin: 1.2rem 0 }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem .8rem }
.tile b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums }
.tile span { color: var(--soft); font-size: .85rem }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); gap: 1rem }
.chart { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: .5rem .6rem .2rem }
.chart h3 { font-size: .9rem; margin: 0 .2rem; font-weight: 600 }
.chart svg { width: 100%; height: auto; display: block }
.chart text { fill: var(--soft); font: 11px system-ui, sans-serif }
.grid { stroke: var(--line) } .s0 { --c: var(--first) } .s1 { --c: var(--second) }
.s2 { --c: var(--third) } .s3 { --c: var(--fourth) }
path.series { fill: none; stroke: var(--c); stroke-width: 1.6; stroke-linejoin: round }
circle.series { fill: var(--c) } .chart text.key { fill: var(--c); font-weight: 600 }
details { margin: .6rem 0 } summary { cursor: pointer; font-weight: 600 }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: .8rem;
  overflow-x: auto; font-size: 12.5px; line-height: 1.45 }
"""
Table = Sequence[Sequence[str]]


def page(title: str, body: Iterable[str], note: str = "") -> str:
    """A complete page.

    Args:
        title: title, as plain text.
        body: HTML fragments, in order.
        note: a line of text below the title.
    """
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    lead = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f"<!doctype html>\n<html lang=en><head>{head}</head><body><h1>{escape(title)}</h1>{lead}\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A heading with its content."""
    return f"<h2>{escape(title)}</h2>" + "".join(parts)


def folded(title: str, content: str) -> str:
    """Content that unfolds when its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def preformatted(text: str) -> str:
    """Preformatted, monospaced text."""
    return f"<pre>{escape(text)}</pre>"


def table(rows: Table) -> str:
    """A table of strings; the first row is the header."""
    head, *rest = rows
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rest
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """Tiles with a large value above its name."""
    cells = (
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in values
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def figure(source: str, caption: str) -> str:
    """An image with its caption above; the source is a URL or comes from `embedded`."""
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>"
        f'<img src="{escape(source, quote=True)}" alt=""></figure>'
    )


def gallery(figures: Iterable[str]) -> str:
    """Figures side by side, as space permits."""
    return f'<div class="gallery">{"".join(figures)}</div>'


def embedded(pixels: npt.NDArray[np.uint8], max_width: int = 1600) -> str:
    """Encode an image as a data URL.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        max_width: wider images are scaled down.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    if image.width > max_width:
        height = max(1, round(image.height * max_width / image.width))
        image = image.resize((max_width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=88)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
