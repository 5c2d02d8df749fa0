"""The cases that peers test their curvature with, written anew from what they are: a row each.

A suite is a file. Sizes are smaller than the peers', so that the dense matrix of a row takes a fraction of a second.
"""
