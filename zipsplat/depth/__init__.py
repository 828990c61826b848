"""Depth and cameras by Depth Anything 3, and scenes of unprojected depth."""
