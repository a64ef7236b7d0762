"""Frozen CLIP-like models behind one interface."""

from .registry import BACKBONES, DEFAULT_BACKBONE, BackboneInfo

__all__ = ["BACKBONES", "DEFAULT_BACKBONE", "BackboneInfo", "load_backbone"]


def load_backbone(*args, **kwargs):
    """Load a `Backbone`; see `ZSADCLIPLib.backbones.load.load_backbone` for arguments and errors."""
    from .load import load_backbone as load

    return load(*args, **kwargs)
