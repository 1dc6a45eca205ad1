"""The contract of a search space. A space of your own is held to it by

    class TestMySpace(SpaceContract):
        def make(self): return MySpace(...)

The network side (built module, thop, FlopCounterMode, memory) is checked where `build` and `plan` exist.
"""

from __future__ import annotations

import pickle
from itertools import combinations, pairwise
from typing import Any

import networkx as nx
import numpy as np
import pytest
import thop
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from nas.protocols import SearchSpace
from nas.searchers.draws import draft_of
from objectives.onnx_graph import to_onnx
from search_spaces import modules as m
from search_spaces.fragments import ACTIVATIONS, IN_PLACE
from search_spaces.plan import flattened, plan_cost

SAMPLES = 30


def zero(module: nn.Module, inputs: Any, output: Any) -> None:
    """thop's rule for what we do not count."""


UNCOUNTED = dict.fromkeys(
    [
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.Flatten, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d),
        *(
            nn.AdaptiveAvgPool1d,
            nn.AdaptiveAvgPool2d,
            m.Add,
            m.Concat,
            m.Scale,
            m.Zero,
        ),
        *(m.Narrow, m.Shift, m.Resize),
        *(type(m.MAKE[kind](None, ())) for kind in ACTIVATIONS),
    ],
    zero,
)


def ids(arch: Architecture) -> set[tuple[str, int]]:
    return {(name, node.id) for name, graph in arch.graphs for node in graph}


def nodes(arch: Architecture) -> dict[tuple[str, int], tuple[str, Any]]:
    return {(name, node.id): (node.op, node.params) for name, graph in arch.graphs for node in graph}


def written(arch: Architecture) -> tuple[Any, ...]:
    """What is written, whatever the ids are: nodes by their place in the list."""
    graphs = []
    for name, graph in arch.graphs:
        place = {node.id: i for i, node in enumerate(graph)}
        graphs.append(
            (name, tuple((n.op, n.params, tuple(place[source] for source in n.inputs)) for n in graph))
        )
    return (*graphs, arch.params)


def relisted(arch: Architecture, rng: np.random.Generator) -> Architecture:
    """The same architecture with other ids, its nodes listed in another topological order."""
    graphs = []
    for name, graph in arch.graphs:
        names = dict(zip([n.id for n in graph], rng.permutation(3 * len(graph)).tolist(), strict=False))
        listed: list[Node] = []
        waiting = list(graph.nodes[:-1])
        while waiting:
            done = {node.id for node in listed}
            ready = [node for node in waiting if done.issuperset(node.inputs)]
            node = ready[int(rng.integers(len(ready)))]
            waiting.remove(node)
            listed.append(node)
        renamed = [
            Node(names[n.id], n.op, tuple(names[i] for i in n.inputs), n.params)
            for n in (*listed, graph.output)
        ]
        graphs.append((name, Graph(tuple(renamed))))
    return Architecture(arch.space, tuple(graphs), arch.params)


def isomorphic(a: Architecture, b: Architecture) -> bool:
    """By networkx: ops, params, outputs and the places of inputs agree; an add has no places."""

    def view(graph: Graph) -> nx.DiGraph:
        found = nx.DiGraph()
        for node in graph:
            found.add_node(node.id, label=(node.op, repr(node.params), node is graph.output))
            for place, source in enumerate(node.inputs):
                known = found.edges.get((source, node.id), {"places": []})["places"]
                found.add_edge(source, node.id, places=sorted([*known, 0 if node.op == "add" else place]))
        return found

    return a.params == b.params and all(
        nx.is_isomorphic(view(g), view(h), node_match=dict.__eq__, edge_match=dict.__eq__)
        for (_, g), (_, h) in zip(a.graphs, b.graphs, strict=True)
    )


def slow_peak_bytes(input_shape: tuple[int, ...], plan: Any) -> int:
    """Peak activation memory by simulation, layer by layer over the whole network.

    Every tensor is the index of its layer, and has a buffer. Before a layer runs, the buffers of all tensors
    that it or a later layer reads (or that are the output) are alive; its own output is alive too. Batch
    norm, activations and flatten write into the buffer of their input if no later layer reads a tensor of
    that buffer.
    """
    steps = flattened(plan)
    output = len(steps) - 1
    buffer = {-1: -1}
    size = {-1: int(np.prod(input_shape))}

    def needed_from(step: int) -> set[int]:
        reads = {source for layer in steps[step:] for source in layer.inputs}
        return {buffer[tensor] for tensor in (*reads, output) if tensor in buffer}

    peak = size[-1]
    for i, layer in enumerate(steps):
        before = needed_from(i)
        source = layer.inputs[0]
        if layer.kind in IN_PLACE and buffer[source] not in needed_from(i + 1):
            buffer[i] = buffer[source]
        else:
            buffer[i] = i
            size[i] = int(np.prod(layer.shape))
        peak = max(peak, sum(size[b] for b in before | {buffer[i]}))
    return 4 * peak


class SpaceContract:
    """Checks that every space must pass. A subclass says how the space is made."""

    neighbors_are_mutations = True
    """Whether `neighbors` holds everything that `mutate` can give."""

    nodes_a_change = 2
    """Most nodes that keep their id and get another op or other params in one mutation."""

    walked: Any

    constants_are_dropped = False
    """Whether canonical forms leave out ops that see zeros only, of which batch norm can make a constant."""

    def make(self) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def space(self) -> Any:
        return self.make()

    @pytest.fixture
    def samples(self, space: Any) -> list[Architecture]:
        rng = np.random.default_rng(0)
        return [space.sample(rng) for _ in range(SAMPLES)]

    # --- genotypes ---------------------------------------------------------------------------------

    def test_it_is_a_search_space(self, space: Any) -> None:
        assert isinstance(space, SearchSpace)
        assert space.input_shape == tuple(space.input_shape)
        assert space.classes >= 2

    def test_samples_are_valid_and_survive_json(self, space: Any, samples: list[Architecture]) -> None:
        for arch in samples:
            space.check(arch)
            assert arch.space == space.name
            assert Architecture.from_json(arch.to_json()) == arch

    def test_the_rng_decides(self, space: Any) -> None:
        def draw() -> list[Architecture]:
            rng = np.random.default_rng(3)
            a, b = space.sample(rng), space.sample(rng)
            return [a, b, space.mutate(a, rng), space.crossover(a, b, rng)]

        assert draw() == draw()

    def test_a_mutation_is_valid_new_and_keeps_ids(self, space: Any, samples: list[Architecture]) -> None:
        rng = np.random.default_rng(1)
        mutations = different = 0
        for start in samples:
            arch = start
            for _ in range(10):
                child = space.mutate(arch, rng)
                space.check(child)
                assert child != arch
                different += child.key != arch.key
                mutations += 1
                before, after = nodes(arch), nodes(child)
                changed = [n for n in before.keys() & after.keys() if before[n] != after[n]]
                assert len(changed) <= self.nodes_a_change
                arch = child
        assert different > 0.9 * mutations  # an edge moved between twins gives an isomorphic graph

    def test_neighbors_are_valid_and_hold_every_mutation(
        self, space: Any, samples: list[Architecture]
    ) -> None:
        rng = np.random.default_rng(2)
        for arch in samples[:8]:
            around = space.neighbors(arch)
            keys = {other.key for other in around}
            assert arch not in around
            for other in around:
                space.check(other)
            if self.neighbors_are_mutations:
                drawn = {space.mutate(arch, rng).key for _ in range(40)}
                assert drawn <= keys
                assert len(drawn) > 1 or len(keys) == 1

    def test_crossover_is_valid_and_keeps_the_first_parents_ids(
        self, space: Any, samples: list[Architecture]
    ) -> None:
        rng = np.random.default_rng(3)
        mixed = 0
        for a, b in pairwise(samples):
            for _ in range(5):
                child = space.crossover(a, b, rng)
                space.check(child)
                of_a, of_b, now = nodes(a), nodes(b), nodes(child)
                for node_id in now.keys() & of_a.keys():
                    assert now[node_id] == of_a[node_id]
                taken = now.keys() - of_a.keys()
                assert not taken & of_b.keys(), "what comes from b is renumbered"
                mixed += bool(taken) and len(now.keys() & of_a.keys()) > 1
        assert mixed

    def test_crossover_with_itself_is_valid(self, space: Any, samples: list[Architecture]) -> None:
        rng = np.random.default_rng(4)
        for arch in samples:
            space.check(space.crossover(arch, arch, rng))

    def test_ids_may_be_any(self, space: Any, samples: list[Architecture]) -> None:
        """An architecture with other ids is the same one, and can be changed as well."""
        rng = np.random.default_rng(5)
        for start in samples[:10]:
            data = start.to_dict()
            for graph in data["graphs"]:
                names = dict(
                    zip(
                        [n["id"] for n in graph["nodes"]],
                        rng.permutation(len(graph["nodes"])).tolist(),
                        strict=True,
                    )
                )
                for node in graph["nodes"]:
                    node["id"] = names[node["id"]]
                    node["inputs"] = [names[source] for source in node["inputs"]]
            arch = Architecture.from_dict(data)
            space.check(arch)
            assert arch.key == start.key
            np.testing.assert_array_equal(space.encode(arch), space.encode(start))
            assert [n.key for n in space.neighbors(arch)] == [n.key for n in space.neighbors(start)]
            for _ in range(20):
                child = space.mutate(arch, rng)
                space.check(child)
                space.check(space.crossover(child, arch, rng))
                arch = child

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 6))
    def test_any_walk_stays_in_the_space(self, seed: int, steps: int) -> None:
        """Mutations and crossovers one after the other; keys are blind to ids and to the listing."""
        if "walked" not in vars(type(self)):
            type(self).walked = self.make()
        space, rng = self.walked, np.random.default_rng(seed)
        arch = space.sample(rng)
        for _ in range(steps):
            arch = space.crossover(space.mutate(arch, rng), space.sample(rng), rng)
            space.check(arch)
        assert Architecture.from_json(arch.to_json()) == arch
        network = space.canonical(arch)
        assert space.canonical(network) == network
        for form in (arch, network):
            assert relisted(form, rng).key == form.key
            assert space.cost(form) == plan_cost(space.input_shape, space.plan(form))

    def test_what_a_space_remembers_does_not_show(self) -> None:
        """One that walked and one that did not: a search that is continued goes on as it would have."""
        space, rng = self.make(), np.random.default_rng(0)
        arch = space.sample(rng)
        for step in range(60):
            seed = int(rng.integers(2**32))
            other = space.sample(rng)
            children = []
            for each in (space, self.make()) if step % 4 == 3 else (space,):
                same = np.random.default_rng(seed)
                mixed = each.crossover(arch, other, same)
                mutant = each.mutate(mixed if step % 2 else arch, same)
                near = list(each.neighbors(arch))[:40]
                children.append((mixed, mutant, near, each.canonical(mutant), each.cost(mutant)))
            assert all(child == children[0] for child in children)
            arch = children[0][1]
        assert len(pickle.dumps(space)) < 1.1 * len(pickle.dumps(self.make())) + 1000  # it is not sent along

    def test_a_draft_becomes_what_the_space_would_have_written(
        self, space: Any, samples: list[Architecture]
    ) -> None:
        """Each draws the same, is the same in natural ids, and keeps the ids of what always stood."""
        for seed, (a, b) in enumerate(pairwise(samples)):
            one, other = np.random.default_rng(seed), np.random.default_rng(seed)
            draft = draft_of(space, a)
            assert draft.written() == a
            draft, arch = draft.crossed(b, one), space.crossover(a, b, other)
            assert draft.written() == arch
            stood = ids(arch)
            for step in range(4):
                draft, arch = draft.mutated(one), space.mutate(arch, other)
                child = draft.written()
                assert written(child) == written(arch)
                assert step or child == arch
                stood &= ids(arch)
                now, stepwise = nodes(child), nodes(arch)
                assert all(now.get(node_id) == stepwise[node_id] for node_id in stood)
                assert written(draft.natural()) == written(child)
                assert child == draft.written()
                space.check(child)

    def test_the_key_of_a_network_does_not_depend_on_ids(
        self, space: Any, samples: list[Architecture]
    ) -> None:
        rng = np.random.default_rng(8)
        for a, b in pairwise(samples):
            for arch in (a, space.crossover(a, b, rng), space.mutate(space.mutate(b, rng), rng)):
                network = space.canonical(arch)
                assert space.network_key(arch) == space.network_key(network) == network.key

    def test_keys_are_equal_exactly_for_isomorphic_networks(
        self, space: Any, samples: list[Architecture]
    ) -> None:
        """Neighbours are alike: of those with the same ops every pair is compared by networkx."""
        alike: dict[Any, list[Architecture]] = {}
        for arch in samples[:3]:
            for other in space.neighbors(arch)[:120]:
                network = space.canonical(other)
                ops = tuple(tuple(sorted((n.op, n.params) for n in graph)) for _, graph in network.graphs)
                alike.setdefault((network.params, ops), []).append(network)
        pairs = [pair for group in alike.values() for pair in combinations(group, 2)]
        for a, b in pairs[:: 1 + len(pairs) // 400]:
            assert (a.key == b.key) == isomorphic(a, b)

    def test_encoding_has_one_length(self, space: Any, samples: list[Architecture]) -> None:
        for encode in space.encodings().values() if hasattr(space, "encodings") else ():
            others = [encode(arch) for arch in samples]
            assert {(e.shape, e.dtype) for e in others} == {(others[0].shape, np.dtype(np.float64))}
            assert others[0].ndim == 1
        encoded = [space.encode(arch) for arch in samples]
        assert {e.shape for e in encoded} == {encoded[0].shape}
        assert encoded[0].ndim == 1
        assert all(e.dtype == np.float64 and np.isfinite(e).all() for e in encoded)
        different = {arch.key: tuple(e) for arch, e in zip(samples, encoded, strict=True)}
        assert len(set(different.values())) == len(different)

    def test_canonical_is_idempotent_and_keeps_ids(self, space: Any, samples: list[Architecture]) -> None:
        for arch in samples:
            network = space.canonical(arch)
            assert space.canonical(network) == network
            assert ids(network) <= ids(arch)
            kept = nodes(arch)
            assert all(kept[node_id] == what for node_id, what in nodes(network).items())
            assert network.space == arch.space
            assert network.params == arch.params

    def test_another_spaces_architecture_is_refused(self, space: Any, samples: list[Architecture]) -> None:
        data = samples[0].to_dict() | {"space": "other"}
        with pytest.raises(
            InvalidArchitecture, match=f"must be of space '{space.name}', but it is of 'other'"
        ):
            space.check(Architecture.from_dict(data))

    def test_parameters_that_the_space_does_not_know_are_refused(
        self, space: Any, samples: list[Architecture]
    ) -> None:
        arch = samples[0]
        more = Architecture(arch.space, arch.graphs, (*arch.params, ("zz", 1)))
        for look in (space.check, space.cost, space.canonical):
            with pytest.raises(InvalidArchitecture, match=r"parameters must be .*zz"):
                look(more)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"op": "no_such_op"}, "no_such_op"),
            ({"params": {"no_such_parameter": 3}}, "param|inputs"),
            ({"inputs": []}, "inputs|read|reads|follow"),
        ],
    )
    def test_a_broken_node_is_named(
        self, space: Any, samples: list[Architecture], change: dict[str, Any], message: str
    ) -> None:
        for arch in samples[:5]:
            data = arch.to_dict()
            node = next(n for n in data["graphs"][0]["nodes"] if n["inputs"])
            node |= change
            with pytest.raises(InvalidArchitecture, match=rf"node {node['id']}\b.*({message})"):
                space.check(Architecture.from_dict(data))

    def test_numbers_of_another_type_are_refused(self, space: Any, samples: list[Architecture]) -> None:
        """2.0 and True are not 2 and 1, whatever was seen before."""
        for arch in samples[:5]:
            for cast in (float, bool):
                data = arch.to_dict()
                node = next(n for n in data["graphs"][0]["nodes"] if n["inputs"])
                node["params"] = {
                    name: cast(value) if isinstance(value, int) and cast(value) == value else value
                    for name, value in node["params"].items()
                }
                changed = Architecture.from_dict(data)
                if changed != arch:
                    with pytest.raises(InvalidArchitecture, match=rf"node {node['id']}\b"):
                        space.check(changed)

    # --- networks ----------------------------------------------------------------------------------

    def test_cost_is_what_torch_and_thop_count(self, space: Any, samples: list[Architecture]) -> None:
        for arch in samples:
            for form in (arch, space.canonical(arch)):
                cost = space.cost(form)
                assert cost.flops == 2 * cost.macs
                with torch.device("meta"):
                    model = space.build(form).eval()
                    x = torch.empty(1, *space.input_shape)
                assert cost.params == sum(p.numel() for p in model.parameters())
                with FlopCounterMode(display=False) as counter:
                    y = model(x)
                assert y.shape == (1, space.classes)
                assert cost.flops == counter.get_total_flops()

    def test_cost_equals_thops(self, space: Any, samples: list[Architecture]) -> None:
        for arch in samples:
            model = space.build(arch)
            macs, _ = thop.profile(
                model, (torch.zeros(1, *space.input_shape),), custom_ops=UNCOUNTED, verbose=False
            )
            assert space.cost(arch).macs == macs

    def test_peak_memory_equals_a_slow_simulation(self, space: Any, samples: list[Architecture]) -> None:
        for arch in samples:
            for form in (arch, space.canonical(arch)):
                assert space.cost(form).peak_activation_bytes == slow_peak_bytes(
                    space.input_shape, space.plan(form)
                )

    def test_the_network_runs_trains_and_computes_the_same_in_canonical_form(
        self, space: Any, samples: list[Architecture]
    ) -> None:
        torch.manual_seed(0)
        x = torch.randn(3, *space.input_shape)
        for arch in samples[:4]:
            written, network = space.build(arch), space.build(space.canonical(arch))
            for module in written.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    if not self.constants_are_dropped:
                        nn.init.normal_(module.bias)
                        nn.init.normal_(module.running_mean)
            weights = written.state_dict()
            assert set(network.state_dict()) <= set(weights)
            network.load_state_dict({name: weights[name] for name in network.state_dict()})
            y, z = written.eval()(x), network.eval()(x)
            assert y.shape == (3, space.classes)
            assert torch.isfinite(y).all()
            torch.testing.assert_close(z, y, rtol=0, atol=1e-5 * float(y.detach().abs().max()))
            network.train()(x).sum().backward()
            assert all(p.grad is not None for p in network.parameters())

    def test_parameter_names_hold_graph_and_node_id(self, space: Any, samples: list[Architecture]) -> None:
        """As net.n3.conv.weight or, for the copies of a cell, normal.0.n3.conv.weight."""
        for arch in samples[:5]:
            names = [name for name, _ in space.build(arch).named_parameters()]
            known = {(graph, f"n{node_id}") for graph, node_id in ids(arch)}
            for name in names:
                graph, *rest = name.split(".")
                if graph in {of_graph for of_graph, _ in arch.graphs} and not rest[0].startswith("pre"):
                    node = rest[1] if rest[0].isdigit() else rest[0]
                    if not node.startswith("pre"):
                        assert (graph, node) in known, name

    def test_onnx_computes_the_same(self, space: Any, samples: list[Architecture]) -> None:
        import onnxruntime

        torch.manual_seed(0)
        x = torch.randn(2, *space.input_shape)
        for arch in samples[:3]:
            model = space.build(space.canonical(arch)).train()
            for _ in range(20):  # batch norms see what they will see, so that nothing explodes
                model(x)
            model.eval()
            session = onnxruntime.InferenceSession(to_onnx(model, space.input_shape))
            (logits,) = session.run(None, {"input": x.numpy()})
            expected = model(x).detach()
            torch.testing.assert_close(
                torch.from_numpy(logits), expected, rtol=0, atol=1e-4 * float(expected.abs().max())
            )

    # --- size --------------------------------------------------------------------------------------

    def test_size_counts_written_forms(self, space: Any) -> None:
        """Where the space is small enough: as many as neighbours reach."""
        assert isinstance(space.size(), int)
        if space.size() > 3000:
            return
        start = space.sample(np.random.default_rng(0))
        reached, waiting = {written(start)}, [start]
        while waiting:
            for other in space.neighbors(waiting.pop()):
                if written(other) not in reached:
                    reached.add(written(other))
                    waiting.append(other)
        assert len(reached) == space.size()
