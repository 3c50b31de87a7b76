"""Blocks that at least two families of networks share: activations, normalisations, pooling, regularisation, starts."""
