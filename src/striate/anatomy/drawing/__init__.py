"""A network drawn as the papers draw theirs: slabs to scale, and the modules that they stand for."""

from striate.anatomy.drawing.picture import draw_architecture as draw_architecture
