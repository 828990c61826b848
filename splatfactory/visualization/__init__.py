"""Figures for logs and reports."""
