"""Weights that others published: which there are, fetching them, reading their files, and recognising networks.

`published` is the table, `download` the door to the network, `files` reads without running code, `recognise` finds the
networks that a file fits, `classes` knows the names of the classes. Only the first and the last need no torch.
"""
