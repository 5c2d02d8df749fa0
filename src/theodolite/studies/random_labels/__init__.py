"""Figure 9: training on labels drawn at random."""
