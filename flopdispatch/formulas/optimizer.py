"""Optimizer."""

from __future__ import annotations

from flopdispatch.registry import Registry

rules = Registry("optimizer")
