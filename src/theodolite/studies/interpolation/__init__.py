"""Figure 11: on the line between networks trained with small and large batches."""
