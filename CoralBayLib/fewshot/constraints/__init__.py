"""What bounds a segmentation beside points: boxes, voxels that are locked, and a mask to start from.

The functions take arrays rather than prompts, because prompts contain boxes.
"""
