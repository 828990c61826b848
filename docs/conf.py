"""Settings of the documentation site; `make docs` builds it, without the network.

Sphinx with MyST, because it reads the same Markdown as the hosting site, takes the API reference
from the docstrings, and can make every broken internal link an error.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from owner import facts  # noqa: E402

import zipsplat  # noqa: E402

project = "ZipSplat"
author = "The ZipSplat maintainers"
release = zipsplat.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "ZipSplat"

myst_heading_anchors = 4  # links like `page.md#a-heading`
default_role = "code"  # docstrings write code in single backticks
napoleon_google_docstring = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_mock_imports = ["gsplat", "xformers"]


def link_to_repository(_app: Sphinx, page: str, source: list[str]) -> None:
    """Point links that leave `docs/` at the repository; the site holds only this folder.

    That their files exist is checked by tests/contracts.
    """
    depth = page.count("/") + 1
    address = f"{facts()['repository']}/blob/main/"
    source[0] = re.sub(rf"\]\((\.\./){{{depth}}}", f"]({address}", source[0])


def setup(app: Sphinx) -> None:
    """Register the hook."""
    app.connect("source-read", link_to_repository)
