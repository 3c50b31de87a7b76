"""How each image is looked at for its scores: once, or in several views whose answers are averaged (`--views`).

fitted    the image as the network's `InputSpec` frames it, mirrored and shifted: single, flip, flip+shift
crops     crops of the network's input size from larger versions of it: ten-crop, multi-scale, 144-crop
dense     the whole of larger versions, the network run as a convolution over them: dense
"""

from striate.evaluation.protocols.asking import Together as Together
from striate.evaluation.protocols.asking import answers as answers
from striate.evaluation.protocols.asking import check_views as check_views
from striate.evaluation.protocols.names import VIEWS as VIEWS
from striate.evaluation.protocols.names import in_words as in_words
from striate.evaluation.protocols.names import passes_of as passes_of
from striate.evaluation.protocols.names import takes_any_size as takes_any_size
