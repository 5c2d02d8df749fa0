"""Figure 12: how the loss reacts to its input, by batch size."""
