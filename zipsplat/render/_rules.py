"""Every constant of rendering: what all renderers, and the shaders of the web page, must share.

The rules are those of gsplat 1.5 (Ye et al., "gsplat: An Open-Source Library for Gaussian
Splatting", 2024); `docs/conventions.md` explains them. The constants of spherical
harmonics are in `zipsplat.sh_constants`.
"""

from __future__ import annotations

import math

NEAR_PLANE = 0.01  # world units; nearer Gaussians are culled
FAR_PLANE = 1e10  # gsplat's default: nothing is too far
EPS2D = 0.3  # pixels² of blur, so that no Gaussian is thinner than about a pixel
FRUSTUM_MARGIN = 0.3  # of half the image, on each side: the Jacobian is taken no farther outside

ALPHA_MIN = 1 / 255  # less changes no 8-bit pixel
LOG2_ALPHA_MIN = math.log2(ALPHA_MIN)
ALPHA_CLAMP = 0.999  # 0.99 in gsplat 1.6; below 1, so that the backward pass can divide by 1 − α
TRANSMITTANCE_MIN = 1e-4  # a pixel is done before it falls below this
EXTENT_MAX = 3.33  # standard deviations where an opaque Gaussian has fallen below ALPHA_MIN

# (extent in standard deviations)² = TWO_LN_2 · (log2(opacity) − LOG2_ALPHA_MIN), since alpha falls
# as exp(−extent² / 2).
TWO_LN_2 = 2 * math.log(2)

EXPECTED_DEPTH_ALPHA_MIN = 1e-10  # expected depth divides by at least this, gsplat's rule
