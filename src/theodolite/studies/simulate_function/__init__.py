"""Figures 1 and 2, Table 1: functions fitted by networks of equal size and unlike depth."""
