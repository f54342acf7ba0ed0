"""Data in memory: tables as they lie on disk, the packed dataset, its splits and its batches."""
