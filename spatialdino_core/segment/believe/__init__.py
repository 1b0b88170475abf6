"""Which blobs are particles: what a movie's first frames say of noise and particles, and confidence from it.

Not the search for blobs (:mod:`..detect`), which calibration calls, nor how particles are fitted
(:mod:`..measure`).
"""
