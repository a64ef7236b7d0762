"""The anomaly detection methods behind one interface."""

from .registry import DEFAULT_METHOD, METHODS, MethodInfo, trainable_methods

__all__ = ["DEFAULT_METHOD", "METHODS", "MethodInfo", "trainable_methods"]
