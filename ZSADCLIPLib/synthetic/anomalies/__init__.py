"""Synthetic anomalies in slices of healthy scans, as MediCLIP's authors make them; docs/methods/mediclip.md says how."""
