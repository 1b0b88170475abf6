"""SpatialDINO workflow, the science: raw lattice light-sheet movies to particle tracks.

The core knows nothing of Snakemake. Each subpackage is a room with one subject; a room imports
only from the rooms below it (see ``docs/architecture.md``). Importing this package is cheap: torch
and zarr are only imported by the modules that need them.
"""

__version__ = "0.1.0"
