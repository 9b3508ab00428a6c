"""Data sets by name and from files, preprocessing, augmentation, and sources of batches."""
