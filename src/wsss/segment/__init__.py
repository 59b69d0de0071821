"""Segmentation networks: made by name, trained on pseudo masks, run at several scales."""
