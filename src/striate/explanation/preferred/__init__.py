"""What a network would most like to see: the image that a class or a map of a layer responds to most."""

from striate.explanation.preferred.ascent import preferred_inputs as preferred_inputs
from striate.explanation.preferred.result import PreferredInput as PreferredInput
