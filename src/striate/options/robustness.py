"""The options of asking how a network bears images that are changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from striate.errors import UnknownNameError, UsageError
from striate.options.declare import check_options, option

GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian-noise", "shot-noise", "impulse-noise", "speckle-noise"),
    "blur": ("gaussian-blur", "defocus-blur", "motion-blur", "zoom-blur", "glass-blur"),
    "weather": ("fog", "snow", "frost", "brightness"),
    "digital": ("contrast", "pixelate", "jpeg", "elastic", "saturate"),
    "sweeps": ("translation", "rotation", "scale", "noise-level", "negative"),
    "adversarial": ("fgsm", "pgd"),
}
KINDS = tuple(kind for kinds in GROUPS.values() for kind in kinds)
SEVERAL: dict[str, tuple[str, ...]] = {  # one word for many kinds
    **GROUPS,
    "corruptions": GROUPS["noise"] + GROUPS["blur"] + GROUPS["weather"] + GROUPS["digital"],
    "all": KINDS,
}
CHOICES = (*SEVERAL, *KINDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustnessOptions:
    """Accuracy on images that are corrupted, moved, turned or attacked."""

    robustness: tuple[str, ...] | None = option(
        None,
        "also score changed images, by kind or several kinds at once: corruptions (noise, blur, weather, digital) in "
        "five severities, sweeps (translation, rotation, scale, noise-level, negative), adversarial (fgsm, pgd), all",
        choices=CHOICES,
        source="Hendrycks & Dietterich 2019, 1903.12261; Goodfellow et al. 2015, 1412.6572; Madry et al. 2018, "
        "1706.06083",
    )
    robustness_images: int | None = option(
        None, "images for it, drawn alike from all classes [1000 of up to 64 pixels, 200 of more]", at_least=1
    )
    robustness_output: str | None = option(None, "folder for its figures and pictures [robustness/ in the run folder]")

    def __post_init__(self) -> None:
        check_options(self, "robustness")
        alone = [name for name in ("robustness_images", "robustness_output") if getattr(self, name) is not None]
        if alone and not self.robustness:
            flag = f"--{alone[0].replace('_', '-')}"
            raise UsageError(f"{flag} is of --robustness, which is not asked for", "add --robustness KIND")


def changes_asked(kinds: str | Sequence[str] | None, images: int | None) -> RobustnessOptions:
    """The options from words that may be one text with commas.

    Raises:
        UnknownNameError, UsageError: a kind that there is not, no images.
    """
    words = tuple(kinds.split(",")) if isinstance(kinds, str) else tuple(kinds or ())
    return RobustnessOptions(robustness=words or None, robustness_images=images)


def kinds_of(words: tuple[str, ...] | list[str] | str) -> tuple[str, ...]:
    """The kinds that words mean, each once, in the order of `KINDS`.

    Raises:
        UnknownNameError: neither a kind nor several.
    """
    wanted: set[str] = set()
    for word in words.split(",") if isinstance(words, str) else words:
        if word not in CHOICES:
            raise UnknownNameError("kind of robustness", word, CHOICES)
        wanted.update(SEVERAL.get(word, (word,)))
    return tuple(kind for kind in KINDS if kind in wanted)
