"""Training: one network at a time in a loop that everyone can read, or many stacked as replicas."""
