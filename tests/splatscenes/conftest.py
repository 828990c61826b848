"""A small place made by hand, whose images can be worked out on paper."""

from __future__ import annotations

import numpy as np
import pytest

from splatscenes.builder import SceneBuilder, Sky
from splatscenes.textures import TEXTURE_SIZE, mip_chain


@pytest.fixture
def grey_builder() -> SceneBuilder:
    """A builder with one matte grey material (number 0) under a white, even sky."""
    builder = SceneBuilder()
    texture = np.full((TEXTURE_SIZE, TEXTURE_SIZE, 3), 0.5, dtype=np.float32)
    builder.add_material(builder.add_texture(mip_chain(texture)), (1.0, 1.0))
    white = (1.0, 1.0, 1.0)
    builder.sky = Sky(zenith=white, horizon=white, sun=white, bounce=white, ambient=1.0)
    return builder
