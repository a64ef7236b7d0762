"""The parts of the module's panel."""
