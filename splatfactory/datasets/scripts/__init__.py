"""Commands that download, convert and maintain data sets."""
