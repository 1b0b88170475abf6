"""Movies as they lie on disk: sample sheet, readers, OME-Zarr stores, frame ledger, provenance.

The lowest room of the science: everything above reads and writes movies through it.
"""
