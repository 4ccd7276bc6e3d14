"""Files on disk → batches."""
