"""What is in the scene: nodes of results, their display, geometry and tables."""
