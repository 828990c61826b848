"""Generated scenes: endless, seeded places with exact poses and depth, drawn on the CPU."""
