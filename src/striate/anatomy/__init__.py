"""Numbers about a network."""

from striate.anatomy.count import count_macs as count_macs
from striate.anatomy.count import count_parameters as count_parameters
