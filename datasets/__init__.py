"""What is read. This package is Manta's own and takes precedence over Hugging Face's of the same name.

The file must exist: a folder without it would lose silently to an installed `datasets` package.
"""
