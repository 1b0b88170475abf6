"""From the skewed frame of a scan to the deskewed frame: maths, voxel sizes and affines."""
