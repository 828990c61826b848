"""Image encoders: commands that prepare their published weights for training."""
