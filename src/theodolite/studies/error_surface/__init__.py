"""Beyond the report: the loss on planes, and along a curve between minima."""
