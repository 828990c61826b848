"""Commands that download, convert and tend data sets."""
