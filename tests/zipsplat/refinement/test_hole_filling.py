"""Holes in images are filled smoothly from around."""

from __future__ import annotations

import torch

from zipsplat.refinement.hole_filling import fill_holes


def test_holes_are_filled_from_around() -> None:
    ramp = torch.linspace(1, 2, 40).expand(30, 40).contiguous()
    known = torch.ones(30, 40, dtype=torch.bool)
    known[8:20, 10:25] = False
    filled = fill_holes(torch.where(known, ramp, 99.0), known)
    assert torch.equal(filled[known], ramp[known])
    assert float((filled - ramp).abs().max()) < 0.15
    constant = fill_holes(torch.where(known, 3.0, -1.0), known)
    torch.testing.assert_close(constant, torch.full((30, 40), 3.0))
    nothing = torch.zeros(30, 40, dtype=torch.bool)
    assert torch.equal(fill_holes(ramp, nothing), ramp)
