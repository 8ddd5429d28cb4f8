"""How a family names its operators, so that an older torch may lack some of them."""

from __future__ import annotations

from typing import Any

import torch


def overloads(*names: str) -> list[Any]:
    """The overloads with these names, those that this torch doesn't have left out.

    A name is `namespace::operator.overload`, or `operator.overload` for aten; `.default` must
    be written.

    Example: `overloads("mm.default", "torchvision::nms.default")`.
    """
    found = []
    for name in names:
        namespace, _, operator = name.rpartition("::")
        operator, _, overload = operator.partition(".")
        packet = getattr(getattr(torch.ops, namespace or "aten"), operator, None)
        if packet is not None and overload in packet.overloads():
            found.append(getattr(packet, overload))
    return found
