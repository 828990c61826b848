"""Data sets: from shards or a generator to training batches."""
