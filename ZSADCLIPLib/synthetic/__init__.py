"""Synthetic brains with lesions and industrial images, from seeds alone."""
