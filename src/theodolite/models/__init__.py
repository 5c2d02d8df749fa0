"""Architectures: descriptions, the modules built from them, and budgets.

Descriptions import no torch; ``mlp`` and ``cnn`` do, when first asked for.
"""
