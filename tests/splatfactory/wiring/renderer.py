"""The reference renderer under another name."""

from zipsplat.render.reference import ReferenceRenderer


class OtherRenderer(ReferenceRenderer):
    name = "other"


PLUGIN = OtherRenderer()
