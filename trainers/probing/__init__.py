"""Features judged by what can be learnt on them: linear classifiers, votes of neighbours, a few labels a class."""
