"""The table of published weights against torchvision's own, and what a name means."""

import pytest

from striate.errors import UnknownNameError
from striate.hub.classes import imagenet_labels, other_names
from striate.hub.published import TABLE, find_weights, listed, published_as
from striate.models import find_entry
from striate.models.build import family_class


def test_the_table_is_torchvision_s():
    models = pytest.importorskip("torchvision.models", reason="torchvision publishes them")
    for one in TABLE:
        theirs = models.get_model_weights(one.model)[one.name.upper()]
        transforms = theirs.transforms()
        assert theirs.url == one.url
        assert one.input.size == (transforms.crop_size[0],) * 2
        assert one.input.crop_fraction == transforms.crop_size[0] / transforms.resize_size[0]
        assert one.input.interpolation == transforms.interpolation.value
        if one.model not in ("googlenet", "inception_v3"):
            assert one.input.mean == tuple(transforms.mean)
            assert one.input.std == tuple(transforms.std)
        assert theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"] == one.top1
        assert len(theirs.meta["categories"]) == one.classes
    for name in {one.model for one in TABLE}:
        there = [one.name for one in models.get_model_weights(name) if one.name != "IMAGENET1K_FEATURES"]
        assert there == [one.name.upper() for one in TABLE if one.model == name]
        assert models.get_model_weights(name).DEFAULT.name == there[-1]
    assert list(imagenet_labels().names) == models.get_model_weights("resnet18").DEFAULT.meta["categories"]


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_what_transform_input_undoes(name):
    """These two see (x - 0.5) / 0.5 inside, whatever the usual normalisation outside."""
    models = pytest.importorskip("torchvision.models", reason="torchvision does it")
    import torch

    network = getattr(models, name)(transform_input=True, init_weights=False)
    pixels = torch.rand(1, 3, 4, 4)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    spec = find_weights(name, "default")[1].input
    torch.testing.assert_close(
        network._transform_input((pixels - mean) / std), (pixels - spec.mean[0]) / spec.std[0], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("model", "name", "entry", "file"),
    [
        ("resnet18", "IMAGENET1K_V1", "resnet18", "resnet18-f37072fd.pth"),
        ("resnet50", "default", "resnet50_v1_5", "resnet50-11ad3fa6.pth"),
        ("resnet50_v1_5", "imagenet1k_v1", "resnet50_v1_5", "resnet50-0676ba61.pth"),
        ("vgg16", "imagenet1k_v1", "vgg_d", "vgg16-397923af.pth"),
        ("googlenet", "imagenet1k_v1", "googlenet_torchvision", "googlenet-1378be20.pth"),
        ("alexnet", "default", "alexnet_owt", "alexnet-owt-7be5be79.pth"),
        ("resnet18", "ResNet18_Weights.IMAGENET1K_V1", "resnet18", "resnet18-f37072fd.pth"),
        ("resnet50_v1_5", "resnet50_weights.Imagenet1k_V2", "resnet50_v1_5", "resnet50-11ad3fa6.pth"),
        ("inception_v3", "Inception_V3_Weights.DEFAULT", "inception_v3", "inception_v3_google-0cc3c7bd.pth"),
    ],
)
def test_the_publisher_s_name_comes_first(model, name, entry, file):
    found, weights = find_weights(model, name)
    assert (found.name, weights.file) == (entry, file)
    assert published_as(weights.sha256 + "0" * 56) == weights


def test_every_published_file_has_its_network():
    for one in TABLE:
        entry, _ = find_weights(one.model, one.name)
        assert one.spelling in listed(entry)


def test_unknown_ones():
    with pytest.raises(UnknownNameError) as caught:
        find_weights("resnet18", "ResNet34_Weights.IMAGENET1K_V1")
    assert "resnet34" in (caught.value.hint or "")
    with pytest.raises(UnknownNameError) as caught:
        find_weights("resnet18", "imagenet1k_v2")
    assert "imagenet1k_v1" in (caught.value.hint or "")
    with pytest.raises(UnknownNameError, match="nin_cifar:imagenet1k_v1") as caught:
        find_weights("nin_cifar", "imagenet1k_v1")
    assert "FILE" in (caught.value.hint or "")
    with pytest.raises(UnknownNameError, match="unknown model"):
        find_weights("resnt18", "imagenet1k_v1")


def test_tags_of_timm():
    pytest.importorskip("timm", reason="timm has the tags")
    entry, weights = find_weights("resnet50", "a1_in1k")
    assert entry.name == "resnet50_v1_5"
    assert weights.url == "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors"
    assert (weights.input.interpolation, weights.input.crop_fraction) == ("bicubic", 0.95)
    assert find_weights("inception_v4", "default")[1].name == "tf_in1k"
    entry, weights = find_weights("timm:resnet10t", "c3_in1k")
    assert (entry.name, weights.input.size) == ("timm:resnet10t", (176, 176))
    with pytest.raises(UnknownNameError) as caught:
        find_weights("timm:resnet10t", "a1_in1k")
    assert "c3_in1k" in (caught.value.hint or "")


def test_the_names_of_classes():
    names = imagenet_labels().names
    assert (names[0], names[134], names[517], names[999]) == ("tench", "crane bird", "crane", "toilet tissue")
    others = other_names(imagenet_labels())
    assert others["n01440764"] == others["tench"] == others["n01440764 tench"] == 0
    assert others["gila monster"] == names.index("Gila monster")
    assert find_entry("resnet18").classes == len(names)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("inception_resnet_v2", "tf_in1k"), ("inception_v4", "tf_in1k"), ("xception", "legacy_xception.tf_in1k")],
)
def test_files_of_timm_are_fed_as_timm_feeds_them(name, theirs):
    """A file in timm's naming says nothing of its input; the naming does."""
    timm = pytest.importorskip("timm", reason="timm says how")
    entry = find_entry(name)
    family = family_class(entry)
    (naming,) = family.namings(family.config_type(**entry.config))
    config = timm.get_pretrained_cfg(theirs if "." in theirs else f"{name}.{theirs}")
    assert naming.input is not None
    assert naming.input.size == config.input_size[1:]
    assert (naming.input.crop_fraction, naming.input.interpolation) == (config.crop_pct, config.interpolation)
    assert (naming.input.mean * 3, naming.input.std * 3) == (config.mean, config.std)
