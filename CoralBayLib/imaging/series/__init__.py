"""The slices of a DICOM series: their headers, and which of them belong to the scan."""
