"""Figure 8: certified critical points, their loss and their share of positive curvature."""
