"""The report, live while a survey runs: a page on this machine alone, made from the records, writing nothing."""

from theodolite.serve.server import Server, is_local, serve

__all__ = ["Server", "is_local", "serve"]
