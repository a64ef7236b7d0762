"""Files that are complete or absent, what tells their contents apart, and what may be said about them; no numpy."""
