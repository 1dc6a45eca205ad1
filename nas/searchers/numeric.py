"""What the searchers of numeric spaces share."""

from __future__ import annotations

from nas.protocols import Context, NumericSpace


def numeric(context: Context, searcher: str) -> NumericSpace:
    """The space of a study, as points.

    Args:
        searcher: who needs them, for the error.

    Raises:
        ValueError: its architectures are no points.
    """
    space = context.space
    if not isinstance(space, NumericSpace):
        raise ValueError(
            f"{searcher} needs a space with bounds, vector and from_vector, such as any of genes (template, "
            f"nasnet, nasbench201, mobilenetv3 …), but {space.name!r} has none"
        )
    return space
