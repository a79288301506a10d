"""Searches: Optuna proposes and remembers, Ray Tune runs, the trials are ordinary runs."""
