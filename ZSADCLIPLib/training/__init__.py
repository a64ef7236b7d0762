"""Training of adapters on slices, with CLIP frozen."""
