"""Mip-NeRF 360."""
