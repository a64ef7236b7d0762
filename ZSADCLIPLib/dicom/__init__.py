"""Results as DICOM objects beside their source: made, checked and sent; no torch, and highdicom only where it is used."""
