"""Materials: where images come from, and how they are checked, decoded, split, augmented and put into batches."""

from striate.data.dataset import Dataset as Dataset
from striate.data.dataset import LeftOut as LeftOut
from striate.data.dataset import Split as Split
from striate.data.decode import decode as decode
from striate.data.fit import fit as fit
from striate.data.images import Images as Images
from striate.data.images import PhotoImages as PhotoImages
from striate.data.images import TensorImages as TensorImages
from striate.data.load import load_data as load_data
