"""Writing packed data sets: columns in memory, pictures in files, splits."""
