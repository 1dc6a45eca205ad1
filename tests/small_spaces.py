"""Every space with a small skeleton, which is built and trained quickly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from search_spaces.chain import ChainSpace
from search_spaces.darts import DARTSSpace
from search_spaces.genetic_cnn import GeneticCNNSpace
from search_spaces.metaqnn import MetaQNNSpace
from search_spaces.mlp import MLPSpace
from search_spaces.mnasnet import MNasNetSpace
from search_spaces.mobilenetv3 import MobileNetV3Space
from search_spaces.nasbench101 import NASBench101Space
from search_spaces.nasbench201 import NASBench201Space
from search_spaces.nasbench_macro import NASBenchMacroSpace
from search_spaces.nasnet import NASNetSpace
from search_spaces.nsganet import NSGANetSpace
from search_spaces.skip_chain import SkipChainSpace
from search_spaces.template import TemplateSpace

SMALL_SPACES: dict[str, Callable[[], Any]] = {
    "chain": lambda: ChainSpace((2, 8, 8), widths=(4, 8), stem=4, head=8),
    "chain, gated": lambda: ChainSpace((2, 8, 8), widths=(4, 8), stem=4, head=8, gated=True),
    "chain of series": lambda: ChainSpace((2, 16), widths=(4, 8), stem=4, head=8),
    "nasbench201": lambda: NASBench201Space((3, 8, 8), cells=1, width=4),
    "nasbench_macro": lambda: NASBenchMacroSpace((3, 8, 8)),
    "nasbench101": lambda: NASBench101Space((3, 8, 8), 3, vertices=5, width=8, stacks=2, cells=1),
    "mnasnet": lambda: MNasNetSpace(
        (3, 8, 8), 3, widths=(8, 8, 16), layers=(1, 2, 2), strides=(1, 1, 2, 2), stem=8, head=16
    ),
    "mobilenetv3": lambda: MobileNetV3Space((3, 8, 8), 3, width_mult=0.25, head=(16, 16)),
    "genetic_cnn": lambda: GeneticCNNSpace((3, 8, 8), 3, nodes=(3, 4), filters=(4, 8), hidden=0),
    "nsganet": lambda: NSGANetSpace((3, 8, 8), 3, nodes=4, filters=(4, 8, 8)),
    "skip_chain": lambda: SkipChainSpace((3, 8, 8), 3, layers=4, filters=(4, 8)),
    "metaqnn": lambda: MetaQNNSpace((3, 8, 8), 3, filters=(4, 8), units=(8, 4)),
    "mlp": lambda: MLPSpace((5,), 3, widths=(4, 8)),
    "template": lambda: TemplateSpace((3, 8, 8), 3),
    "darts": lambda: DARTSSpace((3, 8, 8), 3, cells=3, filters=4),
    "nasnet": lambda: NASNetSpace((3, 8, 8), 3, cells=1, filters=4, blocks=3),
}
