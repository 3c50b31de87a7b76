"""Numbers about a network: layers, parameters, operations, memory, and what every unit sees."""

from striate.anatomy.count import anatomy_of as anatomy_of
from striate.anatomy.count import count_macs as count_macs
from striate.anatomy.count import count_parameters as count_parameters
from striate.anatomy.table import Anatomy as Anatomy
from striate.anatomy.table import Layer as Layer
