"""Labelled data sets: records, labels, splits by subject, and what is wrong with them."""
