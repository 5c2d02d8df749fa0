"""Figure 10: ten sizes of one network, and double descent."""
