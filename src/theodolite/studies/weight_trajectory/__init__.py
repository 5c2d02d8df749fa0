"""Figure 5: the paths of eight trainings through weight space."""
