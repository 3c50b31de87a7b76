"""A network is spelt one way everywhere: `RUN`, `--from` and `MODEL` are read here, and come back ready to use.

    runs/photos, its name, latest     the network of a run
    model.safetensors                 a model file of ours
    MODEL:WEIGHTS                     published weights: resnet18:imagenet1k_v1, timm:resnet10t:c3_in1k, …:default
    MODEL:FILE                        a state dict in a naming of MODEL's publishers
    FILE                              a state dict, recognised by its keys
    MODEL                             random weights

MODEL is a registered name or alias, `timm:NAME`, or `FILE.py:CLASS` for a network of one's own. Python code is run only
where it is spelt so by the caller; for a run or model file of such a network, `FILE.py:CLASS:RUN`.
"""

from __future__ import annotations

from striate.network.opening import described as described
from striate.network.opening import knows_all as knows_all
from striate.network.opening import open_network as open_network
from striate.network.opening import refitted as refitted
from striate.network.spelling import Spelling as Spelling
from striate.network.spelling import read_spelling as read_spelling
