"""The paper's claims, judged on a run."""
