"""Engines that carry jobs to worker processes and bring their outcome back."""
