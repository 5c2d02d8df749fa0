"""The loss of a model over data, L(θ): checked, in batches, over processes; and how all around it stays untouched."""
