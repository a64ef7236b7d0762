"""The tables of a benchmark run."""
