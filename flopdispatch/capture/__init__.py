"""Capture: from operator calls to a Recording, keeping no tensor."""
