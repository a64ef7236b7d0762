"""A DICOM node: it takes studies, scores the series that rules select, and sends the results back; one process, one folder."""
