"""What machines can do: peak rates by dtype and memory bandwidth, from data sheets or measured.

Example:

    >>> from flopdispatch.hardware import Hardware, hardware
    >>> h100 = hardware("NVIDIA H100 80GB HBM3")  # as torch.cuda.get_device_name() has it
    >>> h100.name, h100.peak(torch.bfloat16), h100.bandwidth
    ('H100-SXM', 989400000000000.0, 3350000000000.0)
    >>> mine = Hardware("mine", peaks={"float32": 2e12}, bandwidth=5e10)
    >>> hardware(mine) is mine
    True
"""

import torch  # noqa: F401  # for the example

from flopdispatch.hardware.device import BANDWIDTH, DTYPES, Hardware
from flopdispatch.hardware.lookup import devices, hardware, load
from flopdispatch.hardware.measure import measure_peak

__all__ = ["BANDWIDTH", "DTYPES", "Hardware", "devices", "hardware", "load", "measure_peak"]
