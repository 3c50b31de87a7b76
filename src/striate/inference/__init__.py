"""A network over many images: in batches, on a device, in a precision."""

from striate.inference.forward import logits_of as logits_of
from striate.inference.forward import place as place
