"""Where networks from elsewhere are found: timm's factory, and a class in a Python file of one's own.

A file is run only here, and only when a caller names it in full (`FILE.py:CLASS`): what a model file or a recipe says
is a name to compare with, never a file to run.
"""

from __future__ import annotations

import fnmatch
import hashlib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import MissingExtraError, ModelError, UnknownNameError
from striate.spec import InputSpec, ModelEntry

if TYPE_CHECKING:
    from torch import nn

TIMM = "timm:"
_OWN = re.compile(r"(?P<file>.+\.py):(?P<cls>[A-Za-z_]\w*)")
_BUILD = "striate.models.foreign:Foreign"
# What a class may call the three facts that it is constructed with.
_CLASSES = ("classes", "num_classes", "n_classes")
_CHANNELS = ("in_channels", "in_chans")
_SIZES = ("input_size", "img_size", "image_size")
_USUAL = InputSpec(
    size=(224, 224), channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop_fraction=0.875
)
_USUAL_CLASSES = 1000


def is_foreign(name: str) -> bool:
    """Whether `name` is `timm:NAME` or `FILE.py:CLASS`."""
    return name.lower().startswith(TIMM) or is_own(name)


def is_own(name: str) -> bool:
    """Whether `name` is `FILE.py:CLASS`, code of the user's."""
    return _OWN.fullmatch(name) is not None


def names_code(spelling: str) -> bool:
    """Whether a spelling of a network begins with `FILE.py:CLASS`."""
    return re.match(r".+?\.py:[A-Za-z_]\w*(:|$)", spelling) is not None


def code_of(spelling: str) -> str:
    """The `FILE.py:CLASS` that a spelling begins with, where `names_code`."""
    file, _, rest = spelling.partition(".py:")
    return f"{file}.py:{rest.partition(':')[0]}"


def short_name(source: str) -> str:
    """`FILE.py:CLASS` without folders, as it goes into model files; timm's names as they are."""
    match = _OWN.fullmatch(source)
    return f"{Path(match['file']).name}:{match['cls']}" if match else source


def full_name(source: str) -> str:
    """`FILE.py:CLASS` with the whole path, which means the same from every folder."""
    match = _OWN.fullmatch(source)
    return f"{Path(match['file']).expanduser().resolve()}:{match['cls']}" if match else source


def source_hash(source: str) -> str:
    """SHA-256 of the file with the class; empty for timm.

    Raises:
        ModelError: there is no such file.
    """
    match = _OWN.fullmatch(source)
    return hashlib.sha256(_text(Path(match["file"]))).hexdigest() if match else ""


def foreign_entry(name: str) -> ModelEntry:
    """What is known of a network from elsewhere without building it; no file of the user's is run.

    Raises:
        MissingExtraError: timm is not installed.
        UnknownNameError: timm has no network of that name.
        ModelError: there is no such file.
    """
    if is_own(name):
        source_hash(name)
        return ModelEntry(
            name=name, family="own", build=_BUILD, config={"source": name}, input=_USUAL, classes=_USUAL_CLASSES,
            paper="", year=0, title="a class of your own",
        )  # fmt: skip
    config = timm_config(name)
    return ModelEntry(
        name=f"{TIMM}{config.architecture}", family="timm", build=_BUILD,
        config={"source": f"{TIMM}{config.architecture}"}, input=timm_input(config), classes=config.num_classes,
        paper="", year=0, title=f"timm's {config.architecture}", reference=f"{TIMM}{config.architecture}",
    )  # fmt: skip


def timm_config(name: str) -> Any:
    """timm's record of a network or, with a tag (`NAME.TAG`), of its weights.

    Raises:
        MissingExtraError, UnknownNameError: as `foreign_entry`.
    """
    timm = _timm(name)
    model, _, tag = name.lower().removeprefix(TIMM).partition(".")
    if not timm.models.is_model(model):
        raise UnknownNameError("network of timm", model, timm.list_models())
    if tag and tag not in (tags := timm_tags(model)):
        raise UnknownNameError(f"weights of {TIMM}{model}", tag, tags, f"timm has: {', '.join(tags) or 'none'}")
    config = timm.models.get_pretrained_cfg(f"{model}.{tag}" if tag else model)
    if config is None:  # a network without any weights
        return timm.models.PretrainedCfg(architecture=model, num_classes=_USUAL_CLASSES, input_size=(3, 224, 224))
    return replace(config, architecture=model)


def timm_tags(name: str) -> list[str]:
    """The tags of the weights that timm publishes for a network, the default first; none where it has no such network.

    Raises:
        MissingExtraError: timm is not installed.
    """
    timm = _timm(name)
    plain = name.lower().removeprefix(TIMM)
    if not timm.models.is_model(plain):
        return []
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{plain}.*")]
    default = getattr(timm.models.get_pretrained_cfg(plain), "tag", None)
    return sorted(tags, key=lambda tag: (tag != default, tag))


def timm_names(pattern: str) -> dict[str, list[str]]:
    """timm's networks that `timm:PATTERN` names, each with the tags of its weights: the one of that name, with or
    without a tag, else those that contain it, or match it where it has wildcards.

    Raises:
        MissingExtraError: timm is not installed.
        UnknownNameError: there is none.
    """
    timm = _timm(pattern)
    wanted, known = pattern.lower().removeprefix(TIMM), timm.list_models()
    exact = wanted.partition(".")[0]
    wildcards = any(mark in wanted for mark in "*?[")
    chosen = [exact] if exact in known else fnmatch.filter(known, wanted if wildcards else f"*{wanted}*")
    if not chosen:
        raise UnknownNameError("network of timm", wanted, known)
    tags: dict[str, list[str]] = {name: [] for name in chosen}
    for full in timm.list_pretrained():
        name, _, tag = full.partition(".")
        if name in tags:
            tags[name].append(tag)
    return tags


def timm_input(config: Any) -> InputSpec:
    """What timm's record says that its weights are fed."""
    channels, height, width = config.input_size
    return InputSpec(
        size=(height, width),
        channels=channels,
        mean=tuple(config.mean),
        std=tuple(config.std),
        resize="squash" if config.crop_mode == "squash" else "crop",
        crop_fraction=min(1.0, config.crop_pct or 0.875),
        interpolation=config.interpolation or "bicubic",
    )


def construct(source: str, in_channels: int, classes: int, input_size: tuple[int, int]) -> nn.Module:
    """The network itself, with the weights that its constructor draws.

    Raises:
        ModelError: it cannot be constructed with these figures, or the file cannot be run.
    """
    if not is_own(source):
        return _construct_timm(source, in_channels, classes, input_size)
    cls = own_class(source)
    takes = _parameters(cls)
    size = input_size[0] if input_size[0] == input_size[1] else input_size
    figures = ((_CLASSES, classes), (_CHANNELS, in_channels), (_SIZES, input_size if _is_house(cls) else size))
    given: dict[str, Any] = {name: value for names, value in figures for name in names if name in takes}
    if "config" in takes and hasattr(cls, "config_type"):  # a network written like those of this package
        given |= {"config": cls.config_type(), "name": cls.__name__}
    return _called(source, cls, given)


def own_defaults(source: str) -> tuple[int, int, tuple[int, int]]:
    """Channels, classes and input size that one's own class has where nothing else is said: runs its file.

    From the defaults of its constructor, else from the first and last weighted layer of what it makes.
    """
    from torch import nn

    cls = own_class(source)
    takes = _parameters(cls)

    def default(names: tuple[str, ...]) -> Any:
        return next((takes[name].default for name in names if name in takes and takes[name].default), None)

    channels, classes, size = default(_CHANNELS), default(_CLASSES), default(_SIZES)
    free = [one for one in takes.values() if one.default is inspect.Parameter.empty]
    if not (isinstance(channels, int) and isinstance(classes, int)) and not free:
        network = _called(source, cls, {})
        layers = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
        first = next((one for one in layers if isinstance(one, nn.Conv2d)), None)
        channels = channels if isinstance(channels, int) else getattr(first, "in_channels", None)
        last = layers[-1] if layers else None
        classes = (
            classes if isinstance(classes, int) else getattr(last, "out_features", getattr(last, "out_channels", None))
        )
    size = (size, size) if isinstance(size, int) else size
    size = size if isinstance(size, tuple) and len(size) == 2 else _USUAL.size
    return channels or _USUAL.channels, classes or _USUAL_CLASSES, size


def own_parts(network: nn.Module) -> bool:
    """Whether a network has the anatomy by itself: `stem`, named `stages`, `head`."""
    from torch import nn

    stages = getattr(network, "stages", None)
    if not isinstance(stages, nn.Sequential) or any(name.isdigit() for name, _ in stages.named_children()):
        return False
    return all(isinstance(getattr(network, name, None), nn.Module) for name in ("stem", "head"))


def own_class(source: str) -> Any:
    """The class that `FILE.py:CLASS` names: runs the file.

    Raises:
        ModelError: the file cannot be run, or has no such network.
    """
    from torch import nn

    match = _OWN.fullmatch(source)
    assert match is not None
    file = Path(match["file"]).expanduser().resolve()
    module = _module(file)
    found = getattr(module, match["cls"], None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        networks = [
            name
            for name, one in vars(module).items()
            if isinstance(one, type) and issubclass(one, nn.Module) and one.__module__ == module.__name__
        ]
        if found is not None:
            raise ModelError(f"{match['cls']} in {file.name} is no torch.nn.Module", f"it has: {', '.join(networks)}")
        raise UnknownNameError(f"class of {file.name}", match["cls"], networks)
    return found


def _module(file: Path) -> Any:
    content = _text(file)
    name = f"striate_own_{hashlib.sha256(str(file).encode() + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(file.parent))  # files beside it can be imported, as from a script
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception):
            raise
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        raise ModelError(f"{file} cannot be run: {type(error).__name__}: {error}{where}") from error
    finally:
        sys.path.remove(str(file.parent))
    return module


def _text(file: Path) -> bytes:
    try:
        return file.expanduser().read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelError(f"cannot read {file}: {reason}", "a network of your own is spelt FILE.py:CLASS") from error


def _parameters(cls: Any) -> dict[str, inspect.Parameter]:
    """What the constructor takes by name, `*args` and `**kwargs` left aside."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: one for name, one in inspect.signature(cls).parameters.items() if one.kind in named}


def _is_house(cls: Any) -> bool:
    return hasattr(cls, "config_type")


def _called(source: str, make: Callable[..., Any], given: dict[str, Any]) -> nn.Module:
    try:
        return make(**given)
    except Exception as error:  # whatever somebody's constructor may raise
        figures = ", ".join(f"{name}={value!r}" for name, value in given.items())
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{short_name(source)}({figures}) cannot be constructed: {type(error).__name__}: {reason}",
            "its constructor may take classes, in_channels and input_size; all else needs defaults",
        ) from error


def _construct_timm(source: str, in_channels: int, classes: int, input_size: tuple[int, int]) -> nn.Module:
    timm = _timm(source)
    name = source.lower().removeprefix(TIMM)
    given: dict[str, Any] = {"pretrained": False, "num_classes": classes, "in_chans": in_channels}
    config = timm.models.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size and tuple(config.input_size[1:]) != input_size:
        given["img_size"] = input_size
    return _called(source, lambda **chosen: timm.create_model(name, **chosen), given)


def _timm(what: str) -> Any:
    if find_spec("timm") is None:
        raise MissingExtraError(what, "timm", "timm")
    import timm

    return timm
