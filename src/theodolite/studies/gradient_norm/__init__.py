"""Figures 6 and 7: loss and norm of the gradient through training."""
