"""One file a loader: `prepare(given)` writes its own format, `batches(given)` reads it. Each runs as a script."""
