"""A checkpoint measured from the shell: model, weights, data and loss as files and names, made into objects.

``code.py`` runs the user's own file, ``opened.py`` reads weights without running any, ``asked.py`` joins the rest.
"""

from theodolite.checkpoint.asked import measure
from theodolite.checkpoint.measuring import Measured, options, plain, rows

__all__ = ["Measured", "measure", "options", "plain", "rows"]
