"""Run any network once on meta tensors: every operation is seen, nothing is computed or allocated."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from striate.anatomy.calls import Call, NoRuleError, each
from striate.anatomy.describe import words_for, words_for_module
from striate.anatomy.fields import Field, of_image, whole
from striate.anatomy.flow import IMAGE, Flow, Source
from striate.anatomy.parameters import weight_names
from striate.anatomy.reasons import why_without_theory
from striate.anatomy.rules import POINTWISE, SHAPE_ONLY, VIEWS, field_after
from striate.anatomy.shapes import MetaMode
from striate.anatomy.table import BYTES, Layer
from striate.errors import ModelError

_QUIET = {
    *VIEWS,
    "empty",
    "zeros",
    "ones",
    "full",
    "arange",
    "scalar_tensor",
    "new_zeros",
    "copy_",
    "zero",
    "fill",
}  # no rows between modules
_MAJOR = ("convolution", "mm", "addmm", "bmm", "baddbmm")
_NORMS = ("native_batch_norm", "_native_batch_norm_legit", "native_group_norm", "native_layer_norm")


class Trace:
    """What one run found: the rows, the most memory in use, and the outputs of modules that were asked for."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.peak_bytes = 0
        self.outputs: dict[str, tuple[tuple[int, ...], Field]] = {}
        self.entered: set[str] = set()  # modules by their paths
        self.used: set[str] = set()  # parameters


def trace(model: nn.Module, shape: Sequence[int], *, wanted: Sequence[str] = (), root: str = "") -> Trace:
    """One image [C, H, W] (or [C, L]) through `model` in evaluation mode; the module is left as it was.

    `wanted` are paths of modules whose output's shape and field are kept.

    Raises:
        ModelError: the network does not take such an image, or looks at values, which meta tensors do not have.
    """
    image = empty_input(1, *shape)
    return run(model, image, of_image(image.shape), shape[1:], wanted=wanted, root=root)


def run(
    model: nn.Module,
    image: Tensor,
    field: Field,
    extents: Sequence[int],
    *,
    wanted: Sequence[str] = (),
    root: str = "",
    training: bool = False,
) -> Trace:
    """As `trace`, for a tensor that sees `field` of an image with sides `extents`. Counts are for all its images."""
    values = meta_values(model)
    recorder = _Recorder(model, values, extents, wanted, root)
    recorder.remember(image, field)
    recorder.flow.note(Source(IMAGE), (), (image,), written=False)
    with torch.no_grad(), mode_kept(model, training=training), recorder.listening(model), plain_attention():
        forward(model, values, image, recorder)
    recorder.found.peak_bytes = recorder.memory.peak
    recorder.found.used = recorder.counted
    return recorder.found


def forward(model: nn.Module, values: dict[str, Tensor], image: Tensor, *modes: Any) -> Any:
    """Call `model` with `values` in place of its own."""
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.device("meta"))  # tensors that the forward makes are meta tensors, too
            for mode in modes:
                stack.enter_context(mode)
            return functional_call(model, values, (image,))
    except (RuntimeError, ValueError, TypeError, NotImplementedError, IndexError, AssertionError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        size = "x".join(map(str, image.shape[1:]))
        raise ModelError(
            f"{type(model).__name__} cannot be followed with an input of {size}: {first}",
            "the network must take images of these channels and size, and its steps must not depend on their values",
        ) from error


def meta_values(model: nn.Module) -> dict[str, Tensor]:
    """Shapes without memory for every parameter and buffer; numbers in single precision, which all figures are for."""
    values = {}
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(value):
            raise ModelError(f"{name} has no shape yet", "run the lazy network once on an image before")
        dtype = torch.float32 if value.is_floating_point() else value.dtype
        values[name] = value.detach().to("meta", dtype).requires_grad_(value.requires_grad)
    return values


def empty_input(*shape: int) -> Tensor:
    """Images without memory."""
    return torch.empty(shape, device="meta", dtype=torch.float32)


@contextmanager
def mode_kept(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode for a while; every module then gets its own back."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was in before.items():
            module.training = was


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention as the matrix products that it is."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one row, whatever it does: it has no children, or counts itself."""
    return hasattr(module, "multiply_accumulates") or next(module.children(), None) is None


class _Memory:
    """Bytes of the storages that are alive, parameters and buffers left out."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        self.known: dict[int, weakref.ref[Any]] = {}
        self.now = self.peak = 0
        self.ignored = {value.untyped_storage()._cdata for value in values.values()}

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.known or key in self.ignored:
            return

        def gone(_reference: Any) -> None:
            if self.known.pop(key, None) is not None:
                self.now -= size

        self.known[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


class _Row(Source):
    """A layer in the making."""

    def __init__(self, name: str, module: nn.Module | None, path: str = "") -> None:
        super().__init__()
        self.name, self.module, self.path = name, module, path
        self.calls: list[tuple[str, bool]] = []
        self.macs = self.other_ops = 0
        self.parameters: set[str] = set()
        self.notes: list[str] = []
        self.acts = self.computes = False  # whether it does anything at all, and whether its output is new
        self.lost = False  # whether what its units see is not known


class _Recorder(MetaMode):
    def __init__(
        self, model: nn.Module, values: dict[str, Tensor], extents: Sequence[int], wanted: Sequence[str], root: str
    ) -> None:
        super().__init__()
        self.found = Trace()
        self.memory, self.flow = _Memory(values), Flow()
        self.extents, self.wanted, self.root = tuple(extents), set(wanted), root
        # By storage: the parameters that are in it, or that it is a copy of.
        self.owners = {values[name].untyped_storage()._cdata: {name} for name, _ in model.named_parameters()}
        self.weights = weight_names(model)
        self.sizes = {name: value.numel() for name, value in values.items()}
        self.counted: set[str] = set()
        self.names: Counter[str] = Counter()
        self.paths: list[str] = []
        self.row: _Row | None = None
        # By storage, then by the view of it: what the units see. A storage that was written to in part has no
        # entry for its other views, and then counts as the whole image.
        self.fields: dict[int, dict[Any, Field]] = {}

    # -- fields of tensors --------------------------------------------------------------------------------------------

    def remember(self, tensor: Tensor, field: Field, *, written: bool = False) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.fields:
            self.fields[key] = {}
            weakref.finalize(storage, self.fields.pop, key, None).atexit = False
        known, view = self.fields[key], _view(tensor)
        if written and known.get(view) is not field:
            known.clear()
        known[view] = field
        self.memory.see(tensor)

    def field_of(self, value: Any) -> Field | None:
        if not isinstance(value, Tensor):
            return None
        known = self.fields.get(value.untyped_storage()._cdata)
        if not known:
            return None
        field = known.get(_view(value))
        if field is None:
            if self.row is not None:
                self.row.notes.append("written in parts: taken as seeing the whole image")
                self.row.lost = True
            field = whole(self.extents, value.shape)
        return field

    # -- modules ------------------------------------------------------------------------------------------------------

    @contextmanager
    def listening(self, model: nn.Module) -> Iterator[None]:
        names = {module: name for name, module in model.named_modules()}

        def enter(module: nn.Module, _inputs: Any) -> None:
            self.paths.append(names[module])
            self.found.entered.add(names[module])
            if self.row is None and is_layer(module):
                self.row = _Row(self._path() or type(module).__name__.lower(), module, names[module])

        def leave(module: nn.Module, _inputs: Any, output: Any) -> None:
            self.paths.pop()
            tensors = [one for one in tree_leaves(output) if isinstance(one, Tensor)]
            if self.row is not None and self.row.module is module:
                row, self.row = self.row, None
                if tensors and (row.acts or isinstance(module, nn.modules.dropout._DropoutNd)):
                    self._finish(row, tensors[0])
            name = names[module]
            if name in self.wanted and tensors and (field := self.field_of(tensors[0])) is not None:
                self.found.outputs[name] = (tuple(tensors[0].shape), field)

        handles = []
        try:
            for module in names:
                handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _path(self) -> str:
        return ".".join(part for part in (self.root, self.paths[-1] if self.paths else "") if part)

    def _finish(self, row: _Row, output: Tensor) -> None:
        module = row.module
        if module is not None:
            macs = getattr(module, "multiply_accumulates", None)
            if macs is not None:
                row.macs = output.shape[0] * macs(torch.Size((1, *output.shape[1:])))
            own_names = (f"{row.path}.{name}".lstrip(".") for name, _ in module.named_parameters())
            row.parameters |= {name for name in own_names if name in self.sizes}
        own = row.parameters - self.counted
        self.counted |= own
        op = row.calls[-1][0] if module is None else words_for_module(module, row.calls)
        row.place = len(self.found.layers)
        self.found.layers.append(
            Layer(
                name=row.name,
                op=op,
                output=tuple(output.shape[1:]),
                params=sum(self.sizes[name] for name in own),
                weights=sum(self.sizes[name] for name in own & self.weights),
                macs=row.macs,
                other_ops=row.other_ops,
                activation_bytes=output.numel() * BYTES if row.computes else 0,
                field=self.field_of(output),
                lost=row.lost,
                inputs=row.places(),
                note="; ".join(dict.fromkeys(row.notes)),
            )
        )

    # -- operations ---------------------------------------------------------------------------------------------------

    def saw(self, func: Any, name: str, arguments: dict[str, Any], out: Any) -> None:
        """Note one operation; between modules it is a row of its own unless it only looks at its input differently."""
        call = Call(name, arguments, out, self.field_of)
        outer = self.row
        self.row = row = outer or _Row("", None)
        try:
            self._follow(call, POINTWISE in func.tags, written=func._schema.is_mutable)
        finally:
            self.row = outer
        if outer is not None or name in _QUIET or not isinstance(call.first, Tensor):
            return
        if self.field_of(call.first) is not None or row.parameters - self.counted:
            path = f"{self._path()}.{row.calls[-1][0].split()[0]}".lstrip(".")
            self.names[path] += 1
            row.name = path if self.names[path] == 1 else f"{path}_{self.names[path]}"
            self._finish(row, call.first)

    def _follow(self, call: Call, pointwise: bool, *, written: bool) -> None:
        """Note what an operation does: fields, arithmetic, parameters, memory."""
        row = self.row
        assert row is not None
        row.acts = True
        tensors = [one for one in tree_leaves(call.arguments) if isinstance(one, Tensor)]
        owners = {name for tensor in tensors for name in self.owners.get(tensor.untyped_storage()._cdata, ())}
        row.parameters |= owners
        outs = [one for one in tree_leaves(call.out) if isinstance(one, Tensor)]
        self.flow.note(row, tensors, outs, written=written)
        for one in outs:
            self.memory.see(one)
            if owners and call.name in _QUIET:
                self._owned(one, owners)
        row.macs += _macs(call)
        if call.name not in SHAPE_ONLY and any(self.field_of(one) is not None for one in tensors):
            try:
                fields = field_after(call, pointwise)
            except NoRuleError as error:
                row.notes.append(f"no rule for {error}: taken as seeing the whole image")
                row.lost = True
                fields = [whole(self.extents, one.shape) for one in outs]
            # Of several outputs under one field (statistics, indices) only the first carries the image on.
            several = fields if isinstance(fields, list) else [fields]
            if outs and several and (reason := why_without_theory(call, several[0])):
                row.notes.append(reason)
            for one, field in zip(outs, several, strict=False):
                self.remember(one, field, written=written)
            if call.name not in VIEWS:
                row.computes = True
        if call.name not in _QUIET and outs:
            row.other_ops += _other_ops(call, pointwise)
            row.calls.append((words_for(call), call.name in _MAJOR or "pool" in call.name or call.name in _NORMS))

    def _owned(self, copy: Tensor, owners: set[str]) -> None:
        """Keep in mind what a copy was made of, for the operation that uses it."""
        storage = copy.untyped_storage()
        key = storage._cdata
        if key not in self.owners:
            self.owners[key] = set()
            weakref.finalize(storage, self.owners.pop, key, None).atexit = False
        self.owners[key] |= owners


def _view(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _macs(call: Call) -> int:
    """Multiply-accumulates of a convolution or matrix product."""
    match call.name:
        case "convolution":
            # A weight is [out, in / groups, ...]; of a transposed convolution [in, out / groups, ...].
            return (call["input"] if call["transposed"] else call.out).numel() * call["weight"][0].numel()
        case "mm" | "bmm":
            return call.out.numel() * call.arguments["self"].shape[-1]
        case "addmm":
            return call.out.numel() * call["mat1"].shape[-1]
        case "baddbmm":
            return call.out.numel() * call["batch1"].shape[-1]
    return 0


def _other_ops(call: Call, pointwise: bool) -> int:
    """Arithmetic beside multiply-accumulates, as `Anatomy` defines it."""
    values = call.first.numel()
    if call.name in ("convolution", "addmm", "baddbmm"):
        return values if call.arguments.get("bias", call.arguments.get("self")) is not None else 0
    if call.name in _NORMS or "batch_norm" in call.name:
        return 2 * values
    if "adaptive" in call.name or call.name in ("mean", "sum", "amax", "max"):
        return call.arguments["self"].numel()
    if "pool" in call.name:
        window = 1
        for side in each(call["kernel_size"], 1):
            window *= side
        return values * (window**2 if len(each(call["kernel_size"], 1)) == 1 and "2d" in call.name else window)
    return values if pointwise else 0
