"""Which morphisms lead from a parent to a child: the words for what a walk found."""

from __future__ import annotations

from nas.inherit.walk import NEW, Inheritance, Program, Step

MORPHISMS = {
    "wider": "more channels in a layer",
    "kernel": "a larger kernel",
    "branch": "a new branch into a sum, behind a batch norm that shuts it out",
    "slice": "a new slice of a concatenation",
    "inserted": "a new layer in series that passes its input on",
    "narrower": "fewer channels in a layer",
    "smaller kernel": "a smaller kernel",
    "stride": "another stride, dilation or resolution",
    "separable": "a convolution that became depthwise-separable",
    "removed": "layers less",
    "replaced": "layers with weights of their own instead of others",
    "rewired": "layers connected in another way",
}
"""What a child can differ in, and what each word means."""

KEEPING = frozenset({"wider", "kernel", "branch", "slice", "inserted"})
"""Those that keep the function, "inserted" in eval mode at least."""


def morphisms(child: Program, parent: Program, found: Inheritance) -> frozenset[str]:
    """The keys of `MORPHISMS` that tell the child from the parent; empty for what is the same function."""
    before = {step.name: step for step in parent}
    after = {step.name: step for step in child}
    kinds: set[str] = set()
    for name, copied in found.copied.items():
        new, old = after[name], before[copied.parent]
        if new.kind not in ("conv", "linear"):
            continue
        if not _depthwise(new) and len(copied.out) != old.shape[0]:
            kinds.add("wider" if len(copied.out) > old.shape[0] else "narrower")
        if NEW in copied.into and child[new.inputs[0]].kind == "concat":
            kinds.add("slice")
        if new.kernel != old.kernel:
            grown = all(k >= was for k, was in zip(new.kernel, old.kernel, strict=True))
            kinds.add("kernel" if grown else "smaller kernel")
        if (new.stride, new.dilation, new.shape[1:]) != (old.stride, old.dilation, old.shape[1:]):
            kinds.add("stride")
    if found.silent:
        kinds.add("branch")
    if found.identity:
        kinds.add("inserted")
    if found.separated:
        kinds.add("separable")
    known = {copied.parent for copied in found.copied.values()}
    known |= {whole.parent for whole in found.separated.values()}
    halves = set(found.separated) | {whole.pointwise for whole in found.separated.values()}
    gone = [s for s in parent if _has_weights(s) and s.name not in known]
    fresh = [
        s for s in child if _has_weights(s) and s.name not in found.copied.keys() | found.identity | halves
    ]
    if gone:
        kinds.add("replaced" if fresh and not found.silent else "removed")
    if fresh and not gone and not found.silent and not kinds & {"slice", "separable"}:
        kinds.add("replaced")
    if not found.eval_mode and kinds <= KEEPING:
        kinds.add("rewired")
    return frozenset(kinds)


def _has_weights(step: Step) -> bool:
    return step.kind in ("conv", "linear")


def _depthwise(step: Step) -> bool:
    return step.groups > 1 and step.groups == step.shape[0]
