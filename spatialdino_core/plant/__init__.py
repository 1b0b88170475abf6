"""Particles added into a movie's own raw frames: for learning without labels, and to see what is found.

Not simulation: all but the added light is the movie's, so noise, texture and background are the true ones.
Nothing here is shared with ``simulate/``, so that each can judge the other.
"""
