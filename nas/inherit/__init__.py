"""A child's weights from its parent's: Net2Net and network morphisms, read off the diff of two programs.

Mutation knows nothing of weights: it keeps the ids of the nodes that stay, so parent and child share the
names of their layers. One walk over the child's layers (`nas.inherit.walk`) finds, for every tensor of the
child, which tensor of the parent it holds, channel by channel, and `nas.inherit.weights` moves the weights:

- the same layer is copied; where it became wider, new channels either start fresh and meet zero weights, or
  replicate old ones, whose outgoing weights are divided (Net2WiderNet, Chen et al. 2016, section 3.1);
- a larger kernel is the old one in a frame of zeros;
- a new branch into a sum ends in a batch norm with gamma = 0, so it adds nothing, in eval and train mode;
- a new slice of a concat meets zero weights;
- a new layer in series is the identity where it can be (Net2DeeperNet, section 3.2): with batch norm in eval
  mode only;
- what became narrower keeps its most important channels (largest L1 norm, Li et al. 2017);
- a convolution that became depthwise-separable starts as its best factors of that form;
- everything else starts fresh.

Where the function could not be kept, the child can be trained to give its parent's logits for some epochs
(`nas.trainer`, `teacher`).
"""

from nas.inherit.walk import NEW, Copied, Inheritance, Widening, diff
from nas.inherit.weights import carried, inherit

__all__ = ["NEW", "Copied", "Inheritance", "Widening", "carried", "diff", "inherit"]
