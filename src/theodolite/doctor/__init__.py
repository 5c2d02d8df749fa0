"""What this machine has, what a survey takes here, and which ways to curvature are right on its PyTorch.

``checkup.py`` looks and times; ``curvature.py`` makes the table of ways and layers, ``probes.py`` one cell of it each.
"""
