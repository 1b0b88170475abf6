"""Detection, segmentation and tracking measured against truth tables."""
