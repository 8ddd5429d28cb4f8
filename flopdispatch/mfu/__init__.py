"""MFU and HFU of a training loop: a step is counted once, and then only timed."""

from flopdispatch.mfu.logs import json_lines, tensorboard
from flopdispatch.mfu.meter import MfuMeter
from flopdispatch.mfu.rates import Rates
from flopdispatch.mfu.work import Work

__all__ = ["MfuMeter", "Rates", "Work", "json_lines", "tensorboard"]
