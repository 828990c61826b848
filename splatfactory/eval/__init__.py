"""Judging models on held-out views: protocol, reports, comparison."""
