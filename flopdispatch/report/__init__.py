"""Reports: a profile as something to read. One reporter a file; REPORTERS lists them."""

REPORTERS = ("table",)
