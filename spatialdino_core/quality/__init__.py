"""Fit for use or not: first-frame previews, acquisition measures, accept and reject decisions."""
