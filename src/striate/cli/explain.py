"""`striate explain`: pictures of why a network answers as it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from striate.cli.common import json_flag, options_from, prepare_torch, print_json, progress_of, say, striate_command
from striate.options.explain import ExplainOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from striate.checkpoint import SavedModel
    from striate.explanation.chosen import Chosen
    from striate.explanation.result import Explanation
    from striate.explanation.views.showing import Asked


@striate_command("explain")
@click.argument("run")
@click.argument("images", nargs=-1, metavar="[IMAGE|FOLDER]...")
@options_from(ExplainOptions)
@click.option("--data", metavar="DATA", help="Images of a data set: its name, a folder, a table [IMAGEs].")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Where to write [`explain` in the run folder, or here].",
)  # fmt: skip
@click.option(
    "--format", "kinds", type=click.Choice(("png", "svg")), multiple=True,
    help="A figure for each image, also where there is a page; may be given twice [png for images by name].",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), default=24, show_default=True, help="Images on a page.")
@click.option("--device", default="auto", metavar="TEXT", help="cpu, cuda, cuda:1, mps, or the best there is. [auto]")
@click.option("--offline", is_flag=True, help="Never use the network.")
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder that holds the run folders.")
@json_flag
def command(
    run: str,
    images: tuple[str, ...],
    options: ExplainOptions,
    data: str | None,
    output: Path | None,
    kinds: tuple[str, ...],
    limit: int,
    device: str,
    offline: bool,
    runs: str,
    as_json: bool,
) -> None:
    """Show on which pixels the answer of RUN's network to each IMAGE depends.

    RUN is a run folder, its name, `latest`, a model file, published weights (MODEL:WEIGHTS), or a file of weights,
    alone or as MODEL:FILE. Each IMAGE by name gives a figure: the image, the answer, and a map for each method.

    A FOLDER or a pattern in quotes gives one page with all figures, which needs no network: the worst mistakes first
    where the images lie in folders called like the classes, at most --limit of them. Without any image these are the
    images that the run held out.

    --show looks at the network itself: the filters of its first layer, the maps that a layer makes of an image, the
    images of a data set that each map answers strongest to, what a unit sees of an image, the codes of a data set in
    two dimensions, and the image, made by optimisation, that a class or a map responds to most.

    --show evolution follows features over the snapshots of a run (train --snapshots N), as strips and as animations.

    \b
    Examples:
      striate explain latest
      striate explain latest cat.jpg --method gradcam,integrated-gradients
      striate explain runs/photos photos/val --limit 50
      striate explain vgg_d:imagenet1k_v1 cat.jpg --method deconvnet --layer conv4 --format svg
      striate explain resnet18:imagenet1k_v1 cat.jpg --method all --target tabby
      striate explain latest --show filters,strongest,codes
      striate explain latest --show evolution
      striate explain vgg_d:imagenet1k_v1 cat.jpg --show maps,field --layer conv3
      striate explain resnet18:imagenet1k_v1 --show preferred --target flamingo
    """
    options.check_unit_is_read()
    prepare_torch()
    from striate.explanation.chosen import chosen_images
    from striate.explanation.explaining import explain_images
    from striate.explanation.views.showing import Asked
    from striate.network import open_network
    from striate.runtime import pick_device, pick_threads, set_threads

    progress = progress_of()
    set_threads(pick_threads(None, progress.say))
    saved = open_network(run, runs=runs, offline=offline, progress=progress)
    saved.model.to(pick_device(device))
    folder = output or _folder_for(saved)
    if options.show is not None:
        asked = Asked(saved, options, images, data, offline, progress)
        _write_views(asked, folder, kinds or ("png",), as_json)
        return
    chosen = chosen_images(saved, images, limit=limit, data=data, offline=offline, progress=progress)
    explained = explain_images(
        saved, chosen.images, options, names=chosen.names, truths=chosen.truths, progress=progress
    )
    made = list(_written(explained, folder, kinds or (() if chosen.page else ("png",)), as_json))
    page = _page(saved, run, made, chosen, folder) if chosen.page else None
    if page is not None and not as_json:
        say(f"page: {click.format_filename(page)}")
    if as_json:
        rows = [one.to_dict() for group, _ in made for one in group]
        files = [str(path) for _, paths in made for path in paths]
        print_json({"explanations": rows, "files": files, "page": None if page is None else str(page)})


def _folder_for(saved: SavedModel) -> Path:
    from striate.network.engines import run_of

    return (run_of(saved) or Path()) / "explain"


def _write_views(asked: Asked, folder: Path, kinds: tuple[str, ...], as_json: bool) -> None:
    """The figures of `--show`, each written when it is made."""
    from striate.explanation.animation import save_animation
    from striate.explanation.figures import save_figure
    from striate.explanation.views.showing import show

    rows, taken = [], set()
    for view in show(asked):
        figure, name = view.figure(), _free_name(view.name, taken)
        paths = [save_figure(figure, folder / f"{name}.{kind}") for kind in kinds]
        if frames := view.frames():
            paths.append(save_animation(frames, folder / f"{name}.gif"))
        rows.append(view.to_dict() | {"files": [str(path) for path in paths]})
        if not as_json:
            say(f"{view.kind}  {view.layer}  {'  '.join(click.format_filename(path) for path in paths)}")
            for note in view.notes:
                say(f"  {note}")
    if as_json:
        print_json({"views": rows})


def _written(
    explained: Iterator[list[Explanation]], folder: Path, kinds: tuple[str, ...], quiet: bool
) -> Iterator[tuple[list[Explanation], list[Path]]]:
    """Each image's explanations with the files of its figure, written and named as they come."""
    from striate.explanation.figures import save_figure, side_by_side

    taken: set[str] = set()
    for group in explained:
        name = _free_name(Path(group[0].path).stem, taken)
        paths = [save_figure(side_by_side(group), folder / f"{name}.{kind}") for kind in kinds]
        if not quiet:
            best = group[0].prediction.labels[0]
            files = "  ".join(click.format_filename(path) for path in paths)
            say(f"{click.format_filename(group[0].path)}  {best.label} {best.probability:.1%}  {files}".rstrip())
            for note in dict.fromkeys(note for one in group for note in one.notes):
                say(f"  {note}")
        yield group, paths


def _free_name(stem: str, taken: set[str]) -> str:
    """A name for a file; where several are called the same, as images in several folders, they are numbered."""
    letters = (letter if letter.isalnum() or letter in "-_." else "-" for letter in stem)
    clean = "".join(letters).strip("-") or "image"
    name, number = clean, 1
    while name in taken:
        number += 1
        name = f"{clean}-{number}"
    taken.add(name)
    return name


def _page(
    saved: SavedModel, run: str, made: list[tuple[list[Explanation], list[Path]]], chosen: Chosen, folder: Path
) -> Path:
    from striate.explanation.explaining import worst_first
    from striate.explanation.gallery import gallery_sections, write_page
    from striate.network.engines import run_of

    sections = gallery_sections(worst_first(group for group, _ in made))
    title = f"What {saved.model.architecture.title} looks at"
    of = run_of(saved)
    source = of.name if of is not None and saved.path.parent == of else run
    return write_page(folder / "gallery.html", title, sections, f"{source}. {chosen.about}")
