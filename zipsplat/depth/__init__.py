"""Depth and cameras from Depth Anything 3, and scenes from unprojected depth."""
