"""Sharpen a scene of Gaussians against its photos by optimisation."""
