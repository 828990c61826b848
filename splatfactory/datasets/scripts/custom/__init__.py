"""A person's own photos or video."""
