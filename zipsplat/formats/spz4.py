"""SPZ version 4, for those who ask for it by `format="spz4"` or a name that ends in `.v4.spz`.

It is a few per cent smaller than version 3, and older viewers cannot open it; see `spz`.
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
