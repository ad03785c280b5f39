"""File formats that are read and written, by suffix. Imports nothing."""

READABLE_SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
"""Image files that `read_volume` takes besides DICOM; `.nhdr` and `.mhd` are headers with the voxels in another file."""
WRITABLE_SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha")
"""What `write_volume` writes."""
SEGMENTATION_SUFFIX = ".seg.nrrd"
"""Slicer's segmentations, which are no scans."""
DICOM_SEGMENTATION_SUFFIX = ".dcm"
"""Segmentations as DICOM SEG."""
NAMED_SEGMENTATIONS = (SEGMENTATION_SUFFIX, DICOM_SEGMENTATION_SUFFIX)
"""Files of labels that name their structures themselves."""
