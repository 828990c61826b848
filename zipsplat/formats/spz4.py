"""SPZ version 4, selected by `format="spz4"` or a file name ending in `.v4.spz`.

A few per cent smaller than version 3, but older viewers cannot open it; see `spz`.
"""

from __future__ import annotations

from zipsplat.formats import Format, spz

PLUGIN = Format(
    name="spz4",
    suffixes=(".v4.spz",),
    read=spz.read,
    write=spz.write_version_4,
    tolerance=spz.PLUGIN.tolerance,
)
