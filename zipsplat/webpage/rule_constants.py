"""The rendering constants as GLSL and JavaScript, inserted into the sources of the page.

A line `//{RULES}` in a source marks the place.
"""

from __future__ import annotations

from zipsplat import sh_constants
from zipsplat.render import rules

MARK = "//{RULES}"
_NUMBERS = {
    "EPS2D": rules.EPS2D,
    "ALPHA_MIN": rules.ALPHA_MIN,
    "ALPHA_CLAMP": rules.ALPHA_CLAMP,
    "EXTENT_MAX": rules.EXTENT_MAX,
    "FRUSTUM_MARGIN": rules.FRUSTUM_MARGIN,
    "COLOR_OFFSET": sh_constants.COLOR_OFFSET,
    "SH_C0": sh_constants.SH_C0,
    "SH_C1": sh_constants.SH_C1,
}
_LISTS = {"SH_C2": sh_constants.SH_C2, "SH_C3": sh_constants.SH_C3}


def with_rules(name: str, source: str) -> str:
    """Replace the mark in a source by the constants.

    Args:
        name: of the file; its suffix determines the language.
        source: its text.
    """
    constants = _glsl() if name.endswith(".glsl") else f"const NEAR = {rules.NEAR_PLANE!r};"
    return source.replace(MARK, constants)


def _glsl() -> str:
    # `repr` gives every digit and, for values of this size, always a point, as GLSL floats need.
    lines = [f"const float {name} = {value!r};" for name, value in _NUMBERS.items()]
    for name, values in _LISTS.items():
        kind = f"float[{len(values)}]"
        lines.append(f"const {kind} {name} = {kind}({', '.join(map(repr, values))});")
    return "\n".join(lines)
