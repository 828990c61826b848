"""The training loop and its parts: optimizer, schedules, checkpoints, processes, writers."""
