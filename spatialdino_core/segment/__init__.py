"""Particles in a frame: detection of blobs, instance labels and the object table, without a human label.

A movie is calibrated once on its first frames (:mod:`.calibration`); every frame is then segmented on its own
with that calibration (:mod:`.frame`). Nothing here knows of time, files or neural networks.
"""
