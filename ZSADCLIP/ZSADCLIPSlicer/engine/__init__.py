"""The way to the engine: its choices, its process, its installation."""
