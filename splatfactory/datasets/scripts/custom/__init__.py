"""Your own photos or videos."""
