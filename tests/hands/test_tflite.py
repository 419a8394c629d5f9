from __future__ import annotations

import numpy as np
import pytest
import torch

from handi.core.errors import ModelError
from handi.hands import tflite
from handi.hands.tflite import TFLiteModule, fingerprint, read_graph, with_outputs
from handi.hands.weights import LANDMARK, load_hand_weights


def picture(side: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((1, 3, side, side), np.float32))


@pytest.mark.parametrize(("complexity", "operations"), [("full", (139, 63)), ("lite", (119, 65))])
def test_the_networks_are_read_whole(weights, complexity, operations):
    both = load_hand_weights(complexity)
    graphs = read_graph(both.palm), read_graph(both.landmark)
    assert tuple(len(graph.operations) for graph in graphs) == operations
    boxes, logits = TFLiteModule(graphs[0])(picture(192))
    assert (boxes.shape, logits.shape) == ((1, 2016, 18), (1, 2016, 1))
    landmarks, presence, right, world = TFLiteModule(graphs[1])(picture(224))
    assert landmarks.shape == world.shape == (1, 63)
    assert 0 < presence.item() < 1
    assert 0 < right.item() < 1


@pytest.mark.parametrize("network", ["palm", "landmark"])
def test_torch_agrees_with_litert(weights, network):
    from ai_edge_litert.interpreter import Interpreter

    data = getattr(weights, network)
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    x = picture(detail["shape"][1])
    interpreter.set_tensor(detail["index"], x.permute(0, 2, 3, 1).numpy())
    interpreter.invoke()
    for output, ours, bound in zip(
        interpreter.get_output_details(),
        TFLiteModule(read_graph(data))(x),
        (1e-3, 1e-4, 1e-4, 1e-4),
        strict=False,
    ):
        np.testing.assert_allclose(ours.numpy(), interpreter.get_tensor(output["index"]), rtol=0, atol=bound)


def test_a_batch_gives_what_each_picture_gives(weights):
    module = TFLiteModule(read_graph(weights.landmark))
    batch = torch.cat([picture(224), picture(224).flip(-1), torch.zeros(1, 3, 224, 224)])
    together = module(batch)[0]
    alone = torch.cat([module(one[None])[0] for one in batch])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-3)


def test_the_module_is_frozen_and_lets_gradients_through(weights):
    module = TFLiteModule(read_graph(weights.landmark))
    assert list(module.parameters()) == []
    assert not any(buffer.requires_grad for buffer in module.buffers())
    x = picture(224).requires_grad_()
    module(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_taps_and_other_outputs(weights):
    graph = read_graph(weights.landmark)
    logits = [
        graph.producer(n).inputs[0] if graph.producer(n).name == "LOGISTIC" else n for n in graph.outputs
    ]
    last_block = next(op.output for op in reversed(graph.operations) if op.name == "ADD")
    *outputs, activation = TFLiteModule(graph, logits)(picture(224), taps=[last_block])
    assert activation.shape == (1, 192, 7, 7)
    torch.testing.assert_close(outputs[1].sigmoid(), TFLiteModule(graph)(picture(224))[1])
    patched = read_graph(with_outputs(weights.landmark, graph, logits))
    assert list(patched.outputs) == logits
    with pytest.raises(ValueError, match="in place of"):
        with_outputs(weights.landmark, graph, logits[:2])


def test_autocast_does_not_touch_the_networks(weights):
    module = TFLiteModule(read_graph(weights.landmark))
    with torch.autocast("cpu", torch.bfloat16):
        inside = module(picture(224))[0]
    torch.testing.assert_close(inside, module(picture(224))[0])


@pytest.mark.parametrize("damage", [b"", b"not a network at all", "cut", "no mark"])
def test_what_is_no_network_is_refused(weights, damage):
    if damage == "cut":
        damage = weights.landmark[: len(weights.landmark) // 3]
    elif damage == "no mark":
        damage = weights.landmark[:4] + b"ABCD" + weights.landmark[8:]
    with pytest.raises(ModelError, match=r"here\.tflite: is not a whole"):
        read_graph(damage, where="here.tflite")


def test_an_unknown_operation_is_named(weights, monkeypatch):
    monkeypatch.delitem(tflite.NAMES, 54)  # as a file with an operation that is not in the table
    with pytest.raises(ModelError, match=r"new\.tflite: operation 54 .* is not supported"):
        read_graph(weights.palm, where="new.tflite")


def test_the_fingerprint_is_of_what_is_computed(weights):
    graph = read_graph(weights.landmark)
    assert fingerprint(graph) == LANDMARK["full"].fingerprint
    assert fingerprint(read_graph(weights.landmark + b"metadata")) == fingerprint(graph)
    assert fingerprint(read_graph(weights.palm)) != fingerprint(graph)
