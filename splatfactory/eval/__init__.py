"""Evaluation on held-out views: protocol, reports, comparison."""
