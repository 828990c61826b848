"""Weights that travel with the package, each with a page that says what they are."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def bundled() -> dict[str, Path]:
    """The weights by name; they need no download."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.safetensors"))}
