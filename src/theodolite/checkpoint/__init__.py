"""A checkpoint measured from the shell: model, weights, data and loss as files and names, made into objects.

``code.py`` runs the user's own file, ``weights.py`` reads weights without running any, ``measuring.py`` joins the rest.
"""

from theodolite.checkpoint.measuring import Measured, measure, options, plain, rows

__all__ = ["Measured", "measure", "options", "plain", "rows"]
