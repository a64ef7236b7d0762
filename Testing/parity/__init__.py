"""Compare the engine with golden numbers of the authors' code: one runner per method over cases of one format."""
