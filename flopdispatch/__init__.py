"""An operator-level FLOP counter for PyTorch."""
