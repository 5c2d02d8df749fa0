"""Charts from tables, one family a file, one theme for all."""

from theodolite.errors import require

require("A study, report or figure", "altair", "vl_convert")
