"""`python -m flopdispatch`: what `make demo` runs, the table of a real model."""

from __future__ import annotations

import torch
import torchvision

from flopdispatch import count


def main() -> None:
    """Count torchvision's ResNet-50 on meta."""
    with torch.device("meta"):
        model = torchvision.models.resnet50().eval()
    print(count(model, (1, 3, 224, 224)))


if __name__ == "__main__":
    main()
