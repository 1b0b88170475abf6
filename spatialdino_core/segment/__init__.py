"""Particles in a frame: detection of blobs, instance labels and the object table, without a human label.

A movie is calibrated once on its first frames (:mod:`.believe.calibration`); every frame is then segmented
with that calibration, alone or with the help of the frames around it (:mod:`.frame`), in three wings:
:mod:`.detect` finds blobs, :mod:`.believe` says which are particles, :mod:`.measure` fits and outlines them.
They hand on a :class:`.volume.Volume`, :class:`.optics.Optics` and :class:`.detections.Detections`. Only
:mod:`.stage` knows of files; nothing here links particles over time, which is the track room's business.
"""
