"""Rendering constants are defined once: no other file of the package repeats their values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zipsplat import sh_constants
from zipsplat.render import rules
from zipsplat.webpage.rule_constants import MARK, with_rules

PACKAGE = Path(__file__).parents[2] / "zipsplat"
HOMES = {"render/_rules.py", "sh_constants.py"}
# Numbers that can only be these constants; 0.3, 0.01 and ½ have other meanings elsewhere.
NUMBERS = {
    "EXTENT_MAX": rules.EXTENT_MAX,
    "LOG2_ALPHA_MIN": rules.LOG2_ALPHA_MIN,
    "TWO_LN_2": rules.TWO_LN_2,
    "SH_C0": sh_constants.SH_C0,
    "SH_C1": sh_constants.SH_C1,
    **{f"SH_C2[{i}]": value for i, value in enumerate(sh_constants.SH_C2)},
    **{f"SH_C3[{i}]": value for i, value in enumerate(sh_constants.SH_C3)},
}
RENDERERS = ("render", "webpage", "framing.py")
SUFFIXES = (".py", ".js", ".glsl")


def code_of(path: Path) -> str:
    """A source without comments and docstrings, roughly."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r'""".*?"""|#[^\n]*|(?<!:)//[^\n]*', "", text, flags=re.DOTALL)


def sources() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*")) if p.suffix in SUFFIXES]


def test_no_source_repeats_a_constant() -> None:
    digits = {name: f"{abs(value):.5g}"[:6].lstrip("0") for name, value in NUMBERS.items()}
    for path in sources():
        relative = path.relative_to(PACKAGE).as_posix()
        if relative not in HOMES:
            code = code_of(path)
            for name, start in digits.items():
                assert not re.search(rf"(?<![\d.])0?{re.escape(start)}\d*", code), (relative, name)


@pytest.mark.parametrize("pattern", [r"1(?:\.0)? ?/ ?255(?:\.0)?\b", r"\b0\.999\b", r"\b1e-4\b"])
def test_no_renderer_has_thresholds_of_its_own(pattern: str) -> None:
    for path in sources():
        relative = path.relative_to(PACKAGE).as_posix()
        if relative.startswith(RENDERERS) and relative not in HOMES | {"webpage/flight.js"}:
            assert not re.search(pattern, code_of(path)), relative


def test_shaders_get_the_constants() -> None:
    glsl = with_rules("splat.frag.glsl", f"a\n{MARK}\nb")
    assert f"const float ALPHA_CLAMP = {rules.ALPHA_CLAMP};" in glsl
    assert f"const float[4] SH_C2 = float[4]({sh_constants.SH_C2[0]}, " in glsl
    assert all("." in number for number in re.findall(r"= ([\d.e-]+);", glsl))
    assert with_rules("renderer.js", MARK) == f"const NEAR = {rules.NEAR_PLANE};"
