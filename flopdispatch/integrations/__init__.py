"""Callbacks for training frameworks, one a file; each is imported by its own name."""
