"""Where raw voxels lie in space, and their resampling onto the deskewed grid."""
