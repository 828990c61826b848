"""Depth and cameras of pictures by Depth Anything 3, and scenes made of them."""
