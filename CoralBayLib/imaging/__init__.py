"""Where voxels lie and how they are read and written: grids, resampling, Hounsfield units, volumes, segmentations."""
