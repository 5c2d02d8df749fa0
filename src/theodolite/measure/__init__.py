"""Instruments: pure functions (model, loss, data) -> frozen result, one file each."""
