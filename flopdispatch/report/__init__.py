"""Reports: a profile as something to read. One reporter a file; REPORTERS lists them."""

from flopdispatch.report import table

REPORTERS = {"table": table.render}
