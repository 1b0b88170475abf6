"""What stands out in a frame: filters made for the movie, their local noise, and blobs with their z-scores.

Not which blobs are particles (:mod:`..believe`), nor what they are like (:mod:`..measure`).
"""
