"""The four anomaly detection methods behind one interface."""

from .registry import METHODS, MethodInfo

__all__ = ["METHODS", "MethodInfo"]
