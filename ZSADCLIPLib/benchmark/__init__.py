"""The paper's experiment: rows, settings, plan and steps."""
