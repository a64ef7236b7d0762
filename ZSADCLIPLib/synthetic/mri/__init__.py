"""The mri world: brains and whole heads of any contrast, scanner and common disease, from seeds alone."""
