"""From a volume to its map, mask, findings and files."""
