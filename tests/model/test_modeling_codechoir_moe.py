import copy
import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from transformers import AutoModelForCausalLM

from codechoir.model import moe
from codechoir.model.families import family_of
from codechoir.model.modeling_codechoir_moe import (
    MODELLING_FILES,
    CodechoirMoeForCausalLM,
    ExpertBlock,
    copy_modelling_files,
)
from codechoir.model.prompt_router import Fallback
from codechoir.model.routing_codechoir_moe import Routing

NAMES = ["python", "java", "cpp"]
MIXED = ["cpp", "python", "java", "cpp"]


def token_ids(num_sequences, num_tokens, seed=0):
    return torch.randint(3, 40, (num_sequences, num_tokens), generator=torch.Generator().manual_seed(seed))


def loaded(small, routing="fixed", backend="eager", **more):
    """As transformers loads it, by its Auto class."""
    model = AutoModelForCausalLM.from_pretrained(
        small.folder, routing=routing, experts_implementation=backend, dtype=torch.float32, **more
    )
    assert isinstance(model, CodechoirMoeForCausalLM)
    return model


@torch.no_grad()
def logits(model, tokens, **more):
    return model(tokens, use_cache=False, **more).logits


def apart(found, expected):
    """The largest difference as a share of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def gated(small_moe):
    """A Llama whose first layer stays dense."""
    return small_moe("llama", moe_layers=(1, 2))


@pytest.fixture(scope="module")
def plain(small_moe):
    """A StarCoder2: no gate, biases."""
    return small_moe("starcoder2")


@pytest.fixture(params=["gated", "plain"])
def small(request):
    return request.getfixturevalue(request.param)


def test_a_fixed_route_gives_each_experts_logits_exactly(any_moe):
    model, tokens = loaded(any_moe), token_ids(2, 20)
    for name, dense in any_moe.experts.items():
        model.fix_routes([name])
        assert torch.equal(logits(model, tokens), logits(dense, tokens))
        assert model.shares() == [{name: 1.0}] * 2


@pytest.mark.parametrize(("backend", "bound"), [("eager", 1e-6), ("grouped_mm", 1e-6), ("batched_mm", 1e-5)])
def test_a_fixed_route_through_each_backend(any_moe, backend, bound):
    model, tokens = loaded(any_moe, backend=backend), token_ids(2, 20)
    assert model.get_experts_implementation()[""] == backend
    model.route.through_backend = True
    for name, dense in any_moe.experts.items():
        model.fix_routes([name])
        assert apart(logits(model, tokens), logits(dense, tokens)) < bound


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gpt_bigcode", "phi", "gpt_neox", "codegen"])
def test_identical_experts_change_nothing(small_moe, model_type):
    small, tokens = small_moe(model_type, identical=True), token_ids(2, 20)
    expected = logits(small.experts["python"], tokens)
    for routing, top_k in ((Routing.TOKEN, 1), (Routing.TOKEN, 2), (Routing.UNIFORM, 1), (Routing.HASH, 1)):
        model = loaded(small, routing)
        model.set_routing(routing, top_k)
        assert apart(logits(model, tokens), expected) < 1e-5


def test_token_routing_is_the_rule_worked_out_by_hand(plain):
    """One block's output from the tensors as written, token by token."""
    model = loaded(plain, "token")
    model.set_routing("token", 2)
    block = model.model.layers[1].mlp
    assert isinstance(block, ExpertBlock)
    x_BTD = torch.randn(2, 5, 32)
    model.route.counts_BE = torch.zeros(2, 3)
    model.route.mask_BT = None
    with torch.no_grad():
        found = block(x_BTD)
        at = "model.layers.1.mlp."
        for row, place in ((0, 0), (1, 4)):
            x_D = x_BTD[row, place]
            scores_E = torch.softmax(plain.tensors[f"{at}router.weight"] @ x_D, dim=0)
            expected, total = torch.zeros(32), 0.0
            for expert in scores_E.argsort(descending=True)[:2].tolist():
                up = plain.tensors[f"{at}experts.up_proj"][expert] @ x_D
                inner = torch.nn.functional.gelu(
                    up + plain.tensors[f"{at}experts.up_proj_bias"][expert], approximate="tanh"
                )
                down = plain.tensors[f"{at}experts.down_proj"][expert] @ inner
                expected += scores_E[expert] * (down + plain.tensors[f"{at}experts.down_proj_bias"][expert])
                total += float(scores_E[expert])
            assert apart(found[row, place], expected / total) < 1e-5


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_the_backends_agree_on_token_routing(small, top_k):
    tokens, model = token_ids(3, 20), loaded(small, "token")
    model.set_routing("token", top_k)
    expected = logits(model, tokens)
    for backend in ("grouped_mm", "batched_mm"):
        model.set_experts_implementation(backend)
        assert apart(logits(model, tokens), expected) < 1e-5


def test_a_layer_outside_the_subset_keeps_its_own_feed_forward(gated):
    model = loaded(gated)
    blocks = [type(layer.mlp).__name__ for layer in model.model.layers]
    assert blocks == ["LlamaMLP", "ExpertBlock", "ExpertBlock"]


def test_hash_routing_looks_at_the_token_alone(small):
    model, tokens = loaded(small, "hash"), token_ids(4, 30)
    logits(model, tokens)
    shares = model.shares()
    logits(model, tokens.flip(1))  # the same tokens in another order
    assert model.shares() == shares
    logits(model, torch.arange(3, 40)[None])
    assert set(model.shares()[0]) == set(NAMES)


@pytest.mark.parametrize("routing", Routing)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(small, routing, side):
    model, tokens = loaded(small, routing), token_ids(4, 12)
    model.fix_routes(MIXED)
    expected, routes = logits(model, tokens), model.shares()
    padding, mask = torch.full((4, 3), 7), torch.ones(4, 15, dtype=torch.long)
    if side == "left":
        padded, place = torch.cat([padding, tokens], dim=1), slice(3, None)
        mask[:, :3] = 0
    else:
        padded, place = torch.cat([tokens, padding], dim=1), slice(12)
        mask[:, 12:] = 0
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    found = logits(model, padded, attention_mask=mask, position_ids=positions)
    assert apart(found[:, place], expected) < 1e-5
    assert model.shares() == routes


@pytest.mark.parametrize("routing", Routing)
def test_generate_goes_on_as_a_whole_pass_does(small, routing):
    model, tokens = loaded(small, routing), token_ids(4, 10)
    model.fix_routes(MIXED)
    more = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    out = model.generate(tokens, attention_mask=torch.ones_like(tokens), **more)
    assert out.shape == (4, 15)
    for row in range(4):
        model.fix_routes([MIXED[row]])
        for place in range(10, 15):
            whole = logits(model, out[row : row + 1, :place])[0, -1]
            whole[2] = -torch.inf  # min_new_tokens bars the end
            assert int(whole.argmax()) == int(out[row, place])


@pytest.mark.parametrize("routing", Routing)
def test_generate_with_left_padding_and_a_static_cache(small, routing):
    model, tokens = loaded(small, routing), token_ids(4, 10)
    model.fix_routes(MIXED)
    more = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(tokens, attention_mask=torch.ones_like(tokens), **more)[:, 10:]
    routes = model.shares()
    padded, mask = torch.cat([torch.full((4, 3), 7), tokens], dim=1), torch.ones(4, 13, dtype=torch.long)
    mask[:, :3] = 0
    for cache in ({}, {"cache_implementation": "static", "disable_compile": True}):
        assert torch.equal(model.generate(padded, attention_mask=mask, **more, **cache)[:, 13:], expected)
        assert model.shares() == routes


def test_generate_ends_where_the_dense_model_ends(small):
    model = loaded(small)
    assert not (small.folder / "generation_config.json").exists()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(model.generation_config, name) == small.config[name] is not None


def test_generate_repeats_a_route_with_its_prompt(gated):
    model, tokens = loaded(gated), token_ids(2, 8)
    model.fix_routes(["java", "cpp"])
    torch.manual_seed(0)
    model.generate(
        tokens, attention_mask=torch.ones_like(tokens), do_sample=True, max_new_tokens=3, num_return_sequences=3
    )
    assert model.shares() == [{"java": 1.0}] * 3 + [{"cpp": 1.0}] * 3
    with pytest.raises(ValueError, match="2 experts for 3 sequences"):
        model(token_ids(3, 8))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")  # has another name from transformers 6 on
@pytest.mark.parametrize("routing", Routing)
def test_gradient_checkpointing_gives_the_same_gradients(small, routing):
    tokens, gradients = token_ids(4, 10), []
    for checkpointing in (False, True):
        model = loaded(small, routing).train()
        model.set_routing(routing, 2)
        model.fix_routes(MIXED)
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(tokens, labels=tokens, use_cache=False).loss.backward()
        # Decisions are counted in evaluation alone: layers that are computed anew would count theirs twice.
        assert model.route.counts_BE is None or not model.route.counts_BE.any()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    assert any("experts" in name for name in gradients[0])
    assert any("router" in name for name in gradients[0]) == (routing is Routing.TOKEN)


def test_gradients_are_those_of_the_dense_expert(small):
    model, tokens = loaded(small), token_ids(2, 12)
    model.fix_routes(["java"])
    model(tokens, labels=tokens).loss.backward()
    dense = small.experts["java"]
    dense.zero_grad()
    dense(tokens, labels=tokens).loss.backward()
    family = family_of(small.config, "here")
    for layer in small.moe_layers:
        for packed, parts in moe.packed_parts(family, layer).items():
            gradient = model.get_parameter(packed).grad
            assert apart(gradient[1], torch.cat([dense.get_parameter(part).grad for part in parts])) < 1e-5
            assert not gradient[0].any() and not gradient[2].any()


@pytest.mark.parametrize(("model_type", "routing"), [("plain", "prompt"), ("plain", "fixed"), ("gated", "token")])
def test_torch_compile_takes_one_graph_whatever_the_routes(model_type, routing, request):
    torch._dynamo.reset()
    model = loaded(request.getfixturevalue(model_type), routing, "grouped_mm")
    tokens, counter = token_ids(4, 10), CompileCounter()
    compiled = torch.compile(model, backend=counter)
    for routes in (MIXED, ["java"] * 4, [*NAMES[::-1], "java"]):
        model.fix_routes(routes)
        assert apart(logits(compiled, tokens), logits(model, tokens)) < 1e-5
    assert counter.frame_count == 1
    assert counter.op_count > 100
    torch._dynamo.reset()


@pytest.mark.parametrize("routing", ["prompt", "token", "fixed"])
def test_layers_on_a_disk_are_fetched_when_they_run(small, routing, tmp_path):
    tokens, places = token_ids(4, 10), {"": "cpu", "model.layers.1": "disk", "model.layers.2.mlp": "disk"}
    names = ["embed_tokens", "norm", "rotary_emb", "layers.0", "layers.2.self_attn"]
    names += ["layers.2.input_layernorm", "layers.2.post_attention_layernorm"]
    places = {"lm_head": "cpu", **{f"model.{name}": "cpu" for name in names}}
    places |= {"model.layers.1": "disk", "model.layers.2.mlp": "disk"}
    away = loaded(small, routing, device_map=places, offload_folder=tmp_path)
    assert away.model.layers[1].mlp.experts.down_proj.is_meta
    here = loaded(small, routing)
    for model in (away, here):
        model.fix_routes(MIXED)
    assert torch.equal(logits(away, tokens), logits(here, tokens))


def test_what_is_saved_loads_as_it_was(any_moe, tmp_path):
    model, tokens = loaded(any_moe, "prompt"), token_ids(4, 10)
    model.prompt_router = replace(model.prompt_router, fallback=Fallback.TOP_2, confidence=1.0)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, experts_implementation="eager")
    assert again.config.routing == "prompt"
    assert torch.equal(logits(again, tokens), logits(model, tokens))
    assert again.shares() == model.shares() and all(len(shares) == 2 for shares in again.shares())
    assert again.prompt_router.settings() == model.prompt_router.settings()
    assert {path.name for path in tmp_path.iterdir()} >= {*MODELLING_FILES, "routing.json", "routing.safetensors"}
    assert again.state_dict().keys() == model.state_dict().keys()


REMOTE = """
import sys, torch
try:
    import codechoir
    raise SystemExit("codechoir can be imported")
except ImportError:
    pass
from transformers import AutoModelForCausalLM
folder, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(
    folder, trust_remote_code=True, routing="prompt", experts_implementation="eager", dtype=torch.float32
)
tokens = torch.load(f"{out}/tokens.pt")
with torch.no_grad():
    logits = model(tokens).logits
generated = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=4, do_sample=False)
torch.save({"logits": logits, "generated": generated, "shares": model.shares()}, f"{out}/found.pt")
model.save_pretrained(f"{out}/again")
"""


def test_others_load_the_folder_without_this_package(small, tmp_path):
    tokens = token_ids(4, 10)
    torch.save(tokens, tmp_path / "tokens.pt")
    # -S: the packages are on the path, but what an editable install adds is not.
    environment = os.environ | {
        "PYTHONPATH": sysconfig.get_paths()["purelib"],
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-S", "-c", REMOTE, str(small.folder), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.stderr.strip().endswith("codechoir can be imported"):
        pytest.skip("this package is installed as a copy")
    assert done.returncode == 0, done.stderr
    found, model = torch.load(tmp_path / "found.pt"), loaded(small, "prompt")
    assert torch.equal(found["logits"], logits(model, tokens))
    more = {"attention_mask": torch.ones_like(tokens), "max_new_tokens": 4, "do_sample": False}
    assert torch.equal(found["generated"], model.generate(tokens, **more))
    assert found["shares"] == model.shares()
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", experts_implementation="eager")
    assert torch.equal(logits(again, tokens), found["logits"])


def test_the_modelling_files_need_nothing_of_this_package(tmp_path):
    copy_modelling_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(MODELLING_FILES)
    for path in tmp_path.iterdir():
        assert "codechoir." not in "".join(line for line in path.read_text().splitlines() if "import" in line)
    copy_modelling_files(Path(sys.modules[CodechoirMoeForCausalLM.__module__].__file__).parent)  # onto themselves


def test_a_model_without_a_sidecar_routes_by_token_and_says_what_it_lacks(gated, tmp_path):
    model = CodechoirMoeForCausalLM(copy.deepcopy(loaded(gated).config)).eval()
    tokens = token_ids(2, 8)
    model.set_routing("token")
    assert logits(model, tokens).isfinite().all()  # its weights are random, not what lay in memory
    model.name_or_path = str(tmp_path)
    model.set_routing("prompt")
    with pytest.raises(OSError, match=r"routing\.json"):
        model(tokens)
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "routing.json").exists()


def test_prompt_routing_needs_token_ids(gated):
    model = loaded(gated, "prompt")
    embedded = model.get_input_embeddings()(token_ids(2, 8))
    with pytest.raises(ValueError, match="token ids"):
        model(inputs_embeds=embedded)
    model.set_routing("fixed")
    model.fix_routes(["java"])
    assert torch.equal(model(inputs_embeds=embedded).logits, model(token_ids(2, 8)).logits)


@pytest.mark.parametrize("tied", [True, False])
def test_the_vocabulary_can_be_resized(small_moe, tied):
    model = loaded(small_moe("llama", tie_word_embeddings=tied))
    model.fix_routes(["java"])
    before = logits(model, token_ids(2, 8))
    model.resize_token_embeddings(48, mean_resizing=False)
    after = logits(model, token_ids(2, 8))
    assert after.shape == (2, 8, 48)
    assert torch.equal(after[..., :40], before)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


def test_a_child_that_is_replaced_is_the_one_that_runs(gated):
    model = loaded(gated)
    model.fix_routes(["java"])
    model.lm_head = torch.nn.Linear(32, 11)
    assert logits(model, token_ids(2, 8)).shape == (2, 8, 11)


def test_a_copy_is_a_model_of_its_own(gated):
    model = loaded(gated)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.lm_head.weight.zero_()
    model.fix_routes(["java"])
    other.fix_routes(["cpp"])
    assert not logits(other, token_ids(1, 8)).any()
    assert logits(model, token_ids(1, 8)).any()
    assert model.shares() == [{"java": 1.0}]


def test_the_mode_reaches_what_is_no_child(gated):
    model = loaded(gated)
    assert not model.dense.training
    model.train()
    assert model.dense.training and model.model.layers[1].mlp.experts.training
