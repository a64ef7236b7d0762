"""Reading results outside Slicer: a page for the browser, what readers say of findings, and what becomes of that."""
