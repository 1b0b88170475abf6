"""Raw movies as files hold them: TIFF, OME-TIFF sets, CZI, OME-Zarr. What they mean is settled above."""
