"""Training: steps, the loop, checkpoints, logs."""
