"""Files of the user's own: run by name, and known by a hash of what Python sees of them. Imports no torch."""
