"""What particles are like: fits of points and close pairs, outlines, and the table of objects.

Not whether there are any: what is handed in here exists.
"""
