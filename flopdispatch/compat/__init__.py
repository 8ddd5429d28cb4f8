"""Drop-in faces of other tools: the same call with right numbers, one file a tool.

Each prices under its tool's own convention unless `convention=` says another.
"""
