"""Why units have no theoretical receptive field: the notes of the rows where it is lost."""

from __future__ import annotations

from striate.anatomy.calls import Call
from striate.anatomy.fields import Field

_OF_OPERATION = {
    "roll": "what leaves at one border comes in at the other",
    "repeat": "copies of the map lie side by side",
    "cat": "the parts do not lie beside one another in the image",
}
_MIXED = (
    "meets values made of the whole map, as by squeeze-and-excitation or attention: from here on every unit is taken "
    "as seeing the whole image, and none has a receptive field"
)
_UNLIKE = "its units see parts of the image of different size or spacing"
_STRETCHED = "the map is stretched so that its corners stay in place, which depends on its size"


def why_without_theory(call: Call, after: Field) -> str:
    """Why `call` is the first operation whose units have no theoretical field, or nothing if it is not the first."""
    before = call.operands()
    if None not in after.theories or any(None in one.theories for one in before):
        return ""
    lost = [i for i, theory in enumerate(after.theories) if theory is None]
    everywhere = [one for one in before if any(_sees_alike(one, i) for i in lost)]
    if everywhere and len(everywhere) < len(before):
        return _MIXED
    stretched = _STRETCHED if call.arguments.get("align_corners") else _UNLIKE
    return f"{_OF_OPERATION.get(call.name, stretched)}: no one receptive field"


def _sees_alike(field: Field, axis: int) -> bool:
    """Whether all units see the same along an axis."""
    theory = field.theories[axis]
    return axis not in field.open_axes or axis in field.pooled_axes or (theory is not None and theory.shift == 0)
