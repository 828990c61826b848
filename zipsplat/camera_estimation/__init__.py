"""Cameras of photos: found by structure from motion, read from files, written to files."""
