"""How well a classifier bears what it was not trained for: corruptions, occlusion, attacks; each sample once a condition."""
