"""A finished detection against the truth of its cases: the benchmark's numbers, tables, pictures and a page."""
