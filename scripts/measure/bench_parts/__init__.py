"""The pieces of scripts/measure/bench."""
