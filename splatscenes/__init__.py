"""Generated scenes: endless, seeded, with exact poses and depth, rendered on the CPU."""
