"""A results folder at an address: object stores, leases, what goes there and back, the copy that is worked in."""
