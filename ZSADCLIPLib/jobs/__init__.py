"""Everything that can be started, as frozen data with a `run`."""
