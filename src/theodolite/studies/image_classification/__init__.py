"""Figures 3 and 4, Table 2: convolutional and dense networks on CIFAR-10."""
