import pytest
import torch

from codechoir.compose.layerwise import reading_by_layer, skeleton
from codechoir.model.checkpoint import load_model, open_checkpoint

TOKENS = torch.randint(257, (2, 12), generator=torch.Generator().manual_seed(0))
FLOAT32 = (torch.device("cpu"), torch.float32)
LAYERS = "model.layers"


@pytest.fixture
def model(trunk):
    return skeleton(open_checkpoint(trunk).config)


def test_it_computes_what_the_loaded_model_does_and_again(trunk, model):
    read = open_checkpoint(trunk).read
    with torch.no_grad():
        expected = load_model(trunk, torch.float32)(TOKENS).logits
        for _ in range(2):
            with reading_by_layer(model, LAYERS, read, FLOAT32):
                assert torch.equal(model(TOKENS).logits, expected)


def test_weights_are_read_once_a_pass_and_one_layer_is_held(trunk, model):
    checkpoint, names, held = open_checkpoint(trunk), [], []

    def read(name):
        names.append(name)
        held.append({number for number in (0, 1) if not next(model.model.layers[number].parameters()).is_meta})
        return checkpoint.read(name)

    with torch.no_grad(), reading_by_layer(model, LAYERS, read, FLOAT32):
        model(TOKENS)
    assert sorted(names) == sorted(checkpoint.files)  # the tied head is not read a second time
    assert all(len(numbers) <= 1 for numbers in held)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_without_its_head_it_gives_the_decoders_states(trunk):
    model = skeleton(open_checkpoint(trunk).config | {"tie_word_embeddings": False})
    read = open_checkpoint(trunk).read  # which has no head to give
    with torch.no_grad():
        with reading_by_layer(model, LAYERS, read, FLOAT32, head=False):
            states = model.base_model(TOKENS).last_hidden_state
        assert torch.equal(states, load_model(trunk, torch.float32).model(TOKENS).last_hidden_state)


def test_weights_are_taken_in_the_number_format_asked_for(trunk, model):
    read = open_checkpoint(trunk).read
    with torch.no_grad():
        with reading_by_layer(model, LAYERS, read, (FLOAT32[0], torch.bfloat16)):
            logits = model(TOKENS).logits
        assert logits.dtype is torch.bfloat16
        assert torch.equal(logits, load_model(trunk, torch.bfloat16)(TOKENS).logits)


def test_the_expert_backend_is_the_one_named(composed):
    config = open_checkpoint(composed).config
    assert skeleton(config, "eager").config._experts_implementation == "eager"
    assert skeleton(config, "batched_mm").config._experts_implementation == "batched_mm"


def test_an_error_on_the_way_leaves_no_hooks(trunk, model):
    checkpoint = open_checkpoint(trunk)

    def read(name):
        if "layers.1" in name:
            raise KeyboardInterrupt
        return checkpoint.read(name)

    with pytest.raises(KeyboardInterrupt), torch.no_grad(), reading_by_layer(model, LAYERS, read, FLOAT32):
        model(TOKENS)
    with torch.no_grad(), reading_by_layer(model, LAYERS, checkpoint.read, FLOAT32):
        assert torch.equal(model(TOKENS).logits, load_model(trunk, torch.float32)(TOKENS).logits)
