"""Shared by training and evaluation: process group, run folders, randomness, memory."""
