"""Pictures by likeness: features of a network, an index of them, the nearest ones, how good they are."""
