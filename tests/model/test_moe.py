import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors import torch as safetensors_torch
from transformers import AutoModelForCausalLM

from codechoir.errors import InputError
from codechoir.model.checkpoint import load_model, open_checkpoint
from codechoir.model.families import family_of
from codechoir.model.moe import (
    Composed,
    Route,
    Routing,
    active_parameters,
    assemble,
    composed_config,
    dense_from_tensors,
    load_composed,
    mixtral_expert_name,
    mixtral_prefix,
    open_composed,
    packed_parts,
    router_name,
    write_routing,
)

LANGUAGES = ("python", "java", "cpp")
ROUTED = [(Routing.PROMPT, 1), (Routing.TOKEN, 1), (Routing.TOKEN, 2), (Routing.FIXED, 1), (Routing.UNIFORM, 1)]


def token_ids(num_sequences, num_tokens, seed=0):
    return torch.randint(1, 257, (num_sequences, num_tokens), generator=torch.Generator().manual_seed(seed))


def loaded(folder, routing, top_k=1):
    return load_composed(folder, routing, top_k, torch.float32)


def mixtral(folder, top_k):
    """The composed folder in plain transformers, which knows nothing of us."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, experts_implementation="eager", num_experts_per_tok=top_k
    ).eval()


@torch.no_grad()
def logits(model, tokens, **more):
    return model(tokens, use_cache=False, **more).logits


def assert_close(found, expected, bound=1e-5):
    assert float((found - expected).abs().max() / expected.abs().max()) < bound


@pytest.fixture(scope="module")
def dense(experts):
    """The experts as plain transformers loads them."""
    return {name: load_model(folder, torch.float32) for name, folder in experts.items()}


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_token_routing_is_plain_mixtral(composed, top_k):
    tokens = token_ids(3, 40)
    expected = logits(mixtral(composed, top_k), tokens)
    assert_close(logits(loaded(composed, Routing.TOKEN, top_k), tokens), expected)
    assert not torch.allclose(expected, logits(mixtral(composed, top_k % 3 + 1), tokens), rtol=1e-3)  # top_k shows


def test_token_routing_with_padding_is_plain_mixtral(composed):
    tokens, mask = token_ids(2, 24), torch.ones(2, 24, dtype=torch.long)
    mask[0, 15:] = 0
    expected = logits(mixtral(composed, 2), tokens, attention_mask=mask)
    found = logits(loaded(composed, Routing.TOKEN, 2), tokens, attention_mask=mask)
    assert_close(found[mask.bool()], expected[mask.bool()])


def test_routes_of_tokens_are_counted_as_mixtrals_routers_choose(composed):
    tokens, mask = token_ids(2, 24), torch.ones(2, 24, dtype=torch.long)
    mask[0, 15:] = 0
    model = loaded(composed, Routing.TOKEN, 2)
    logits(model, tokens, attention_mask=mask)
    with torch.no_grad():
        routers = mixtral(composed, 2)(tokens, attention_mask=mask, output_router_logits=True).router_logits
    totals = torch.zeros(2, len(LANGUAGES))
    for scores in routers:
        top = scores.softmax(dim=-1).topk(2)
        weights = torch.zeros_like(scores).scatter_(1, top.indices, top.values / top.values.sum(dim=1, keepdim=True))
        totals += (weights.view(2, 24, -1) * mask[..., None]).sum(dim=1)
    for share, total in zip(model.shares(), totals / totals.sum(dim=1, keepdim=True), strict=True):
        assert [share.get(name, 0.0) for name in LANGUAGES] == pytest.approx(total.tolist(), abs=1e-4)


def test_uniform_routing_is_the_plain_mean_of_the_experts(composed, trunk, dense):
    class Mean(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.parts = torch.nn.ModuleList(model.model.layers[layer].mlp for model in dense.values())

        def forward(self, x):
            return sum(part(x) for part in self.parts) / len(self.parts)

    tokens, expected = token_ids(2, 30), load_model(trunk, torch.float32)
    for number, layer in enumerate(expected.model.layers):
        layer.mlp = Mean(number)
    model = loaded(composed, Routing.UNIFORM)
    assert_close(logits(model, tokens), logits(expected, tokens))
    assert model.shares() == [pytest.approx(dict.fromkeys(LANGUAGES, 1 / 3), abs=1e-4)] * 2


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_fixed_route_gives_the_experts_logits_exactly(composed, dense, name):
    model, tokens = loaded(composed, Routing.FIXED), token_ids(3, 40)
    model.fix_routes([name] * 3)
    assert torch.equal(logits(model, tokens), logits(dense[name], tokens))
    assert model.shares() == [{name: 1.0}] * 3


def test_a_batch_of_several_fixed_routes_gives_each_its_expert(composed, dense):
    model, tokens = loaded(composed, Routing.FIXED), token_ids(4, 40)
    routes = ["cpp", "python", "cpp", "java"]
    model.fix_routes(routes)
    found = logits(model, tokens)
    for row, name in enumerate(routes):
        assert_close(found[row], logits(dense[name], tokens)[row], 1e-6)
    assert model.shares() == [{name: 1.0} for name in routes]


@pytest.fixture(scope="module")
def prompts(composed):
    """A sequence that the prompt router sends to each expert with confidence, all of other lengths."""
    router, chosen = open_composed(composed).prompt_router, {}
    for seed in range(400):
        tokens = token_ids(1, 10 + seed % 7, seed)[0]
        probabilities = router.probabilities([tokens])
        if router.is_sure(probabilities):
            chosen.setdefault(int(probabilities.argmax()), tokens)
    assert len(chosen) == len(LANGUAGES)
    return [chosen[expert] for expert in range(len(LANGUAGES))]


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompt_routing_reads_each_sequence_without_its_padding(composed, dense, prompts, side):
    longest = max(map(len, prompts)) + 3
    # The padding is a token that by itself would send every sequence to one expert.
    router = open_composed(composed).prompt_router
    padding = int(router.probabilities(torch.arange(257)[:, None].unbind())[:, 0].argmax())
    tokens, mask = torch.full((3, longest), padding), torch.zeros(3, longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        place = slice(longest - len(prompt), None) if side == "left" else slice(len(prompt))
        tokens[row, place], mask[row, place] = prompt, 1
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    model = loaded(composed, Routing.PROMPT)
    found = logits(model, tokens, attention_mask=mask, position_ids=positions)
    assert model.shares() == [{name: 1.0} for name in LANGUAGES]
    for row, (name, prompt) in enumerate(zip(LANGUAGES, prompts, strict=True)):
        assert_close(found[row, mask[row].bool()], logits(dense[name], prompt[None])[0])


def test_prompt_routing_without_a_mask_reads_it_all(composed, dense, prompts):
    model = loaded(composed, Routing.PROMPT)
    for name, prompt in zip(LANGUAGES, prompts, strict=True):
        assert torch.equal(logits(model, prompt[None]), logits(dense[name], prompt[None]))


def test_a_prompt_under_the_confidence_gets_the_mixture_that_the_shares_tell(composed, prompts):
    model = loaded(composed, Routing.PROMPT)
    tokens = prompts[1][None]
    (row,) = model.prompt_router.probabilities([tokens[0]])
    model.prompt_router = replace(model.prompt_router, confidence=1.0)
    first, second = row.topk(2).indices.tolist()
    weights = torch.zeros(1, 3)
    weights[0, [first, second]] = row[[first, second]] / (row[first] + row[second])
    found = logits(model, tokens)
    (told,) = model.shares()
    assert told == pytest.approx({LANGUAGES[n]: float(weights[0, n]) for n in (first, second)}, abs=1e-4)
    expected = loaded(composed, Routing.FIXED)
    expected._fixed = lambda _: weights
    assert torch.equal(found, logits(expected, tokens))
    logits(model, torch.zeros(1, 1, dtype=torch.long))  # the separator alone
    assert model.shares() == [pytest.approx(dict.fromkeys(LANGUAGES, 1 / 3), abs=1e-4)]


@pytest.mark.parametrize(("routing", "top_k"), ROUTED)
@torch.no_grad()
def test_decoding_with_a_cache_gives_what_a_whole_pass_gives(composed, prompts, routing, top_k):
    prompt = torch.stack([prompt[:10] for prompt in prompts])
    # The prompt is routed by its first tokens alone, so the whole pass may not read more of it.
    open_router = open_composed(composed).prompt_router
    model = loaded(composed, routing, top_k)
    object.__setattr__(model.prompt_router, "prefix_tokens", 10)
    tokens = torch.cat([prompt, token_ids(3, 6)], dim=1)
    model.fix_routes(["java", "cpp", "java"])
    whole, routes = logits(model, tokens), model.shares()
    assert open_router.prefix_tokens != 10

    model.fix_routes(["java", "cpp", "java"])
    out = model(tokens[:, :10], use_cache=True)
    steps = [out.logits]
    for place in range(10, 16):
        mask = torch.ones(3, place + 1, dtype=torch.long)
        step = tokens[:, place : place + 1]
        out = model(step, attention_mask=mask, past_key_values=out.past_key_values, use_cache=True)
        steps.append(out.logits)
    assert_close(torch.cat(steps, dim=1), whole)
    assert [pytest.approx(share, abs=2e-4) for share in model.shares()] == routes


@pytest.mark.parametrize(("routing", "top_k"), ROUTED)
@torch.no_grad()
def test_sequences_that_are_kept_go_on_as_if_alone(composed, prompts, routing, top_k):
    prompt = torch.stack([prompt[:10] for prompt in prompts])
    routes, step = ["java", "cpp", "python"], token_ids(3, 1, 9)
    model, rows = loaded(composed, routing, top_k), torch.tensor([2, 0])
    model.fix_routes(routes)
    out = model(prompt, use_cache=True)
    out.past_key_values.batch_select_indices(rows)
    model.keep(rows)
    found = model(step[rows], past_key_values=out.past_key_values, use_cache=True).logits
    shares = model.shares()
    for place, row in enumerate(rows.tolist()):
        model.fix_routes([routes[row]])
        alone = model(prompt[row : row + 1], use_cache=True)
        expected = model(step[row : row + 1], past_key_values=alone.past_key_values, use_cache=True).logits
        assert_close(found[place], expected[0])
        assert shares[place] == pytest.approx(model.shares()[0], abs=2e-4)


def test_active_parameters_are_those_counted_by_hand(composed):
    width, inner, vocabulary, layers = 64, 128, 257, 2
    attention = 2 * width * width + 2 * 32 * width  # q and o; k and v have half the heads
    shared = vocabulary * width + layers * (attention + 2 * width) + width
    expert, routers = layers * 3 * width * inner, layers * 3 * width
    opened = open_composed(composed)
    assert (
        active_parameters(opened, Routing.FIXED, 1) == active_parameters(opened, Routing.PROMPT, 1) == shared + expert
    )
    assert active_parameters(opened, Routing.TOKEN, 1) == shared + expert + routers
    assert active_parameters(opened, Routing.TOKEN, 2) == shared + 2 * expert + routers
    assert active_parameters(opened, Routing.UNIFORM, 1) == shared + 3 * expert


def test_the_experts_cost_no_copy_of_what_they_share(composed):
    model = loaded(composed, Routing.FIXED)
    total = sum(parameter.numel() for parameter in model.parameters())
    on_disk = safetensors_torch.load_file(composed / "model.safetensors")
    assert total == sum(tensor.numel() for tensor in on_disk.values())


def test_a_dense_model_from_tensors_is_the_one_that_transformers_loads(trunk):
    opened, tokens = open_checkpoint(trunk), token_ids(1, 20)
    built = dense_from_tensors(opened.config, dict(opened.items()), torch.float32)
    assert torch.equal(logits(built, tokens), logits(load_model(trunk, torch.float32), tokens))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), r"model\.norm\.weight"),
        (lambda tensors: tensors.update({"odd.weight": torch.ones(1)}), r"odd\.weight"),
    ],
)
def test_a_dense_model_refuses_other_tensors_by_name(trunk, change, told):
    opened = open_checkpoint(trunk)
    tensors = dict(opened.items())
    change(tensors)
    with pytest.raises(InputError, match=told):
        dense_from_tensors(opened.config, tensors, torch.float32)


def test_the_sidecar_comes_back_as_it_was_written(composed, tmp_path):
    copy = shutil.copytree(composed, tmp_path / "copy")
    before = open_composed(copy)
    write_routing(copy, before.dense_config, before.experts, before.prompt_router)
    after = open_composed(copy)
    assert (after.dense_config, after.experts) == (before.dense_config, before.experts) and after.experts == LANGUAGES
    assert torch.equal(after.prompt_router.weight_FE, before.prompt_router.weight_FE)
    assert torch.equal(after.prompt_router.words_V, before.prompt_router.words_V)
    assert after.prompt_router.temperature == before.prompt_router.temperature
    assert after.prompt_router.prefix_tokens == before.prompt_router.prefix_tokens


@pytest.mark.parametrize("key", ["experts", "dense_config", "prompt_router"])
def test_a_damaged_sidecar_is_told(composed, tmp_path, key):
    copy = shutil.copytree(composed, tmp_path / "copy")
    path = copy / "routing.json"
    routing = json.loads(path.read_text())
    del routing[key]
    for damaged in (json.dumps(routing), "[]", "{"):
        path.write_text(damaged)
        with pytest.raises(InputError, match=r"routing\.json"):
            open_composed(copy)
    path.unlink()
    with pytest.raises(InputError, match=r"routing\.json"):
        open_composed(copy)


def test_missing_routing_tensors_are_told(composed, tmp_path):
    copy = shutil.copytree(composed, tmp_path / "copy")
    (copy / "routing.safetensors").unlink()
    with pytest.raises(InputError, match=r"routing\.safetensors"):
        open_composed(copy)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (["python", "java"], r"experts\.2\.w1\.weight is unknown"),
        (["python", "java", "cpp", "javascript"], r"experts\.3\.w1\.weight is missing"),
    ],
)
def test_a_sidecar_of_other_experts_than_the_weights_is_told(composed, tmp_path, named, told):
    copy = shutil.copytree(composed, tmp_path / "copy")
    path = copy / "routing.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"experts": named}))
    with pytest.raises(InputError, match=told):
        loaded(copy, Routing.FIXED)


@pytest.fixture(scope="module")
def packed(small_moe):
    """Gated experts in two of three layers."""
    return small_moe("qwen3", moe_layers=(0, 2))


def small_ids(num_sequences, num_tokens):
    return token_ids(num_sequences, num_tokens) % 37 + 3


def test_a_packed_folder_is_opened(packed):
    opened = open_composed(packed.folder)
    assert opened.experts == LANGUAGES
    assert opened.layers() == (0, 2)
    assert opened.dense_config["model_type"] == "qwen3"
    assert opened.family.describe() == family_of(packed.config, "here").describe()


def test_a_packed_folder_gives_each_experts_logits_exactly(any_moe):
    model, tokens = loaded(any_moe.folder, Routing.FIXED), small_ids(3, 20)
    for name, expert in any_moe.experts.items():
        model.fix_routes([name] * 3)
        assert torch.equal(logits(model, tokens), logits(expert, tokens))


@pytest.mark.parametrize(("routing", "top_k"), [*ROUTED, (Routing.HASH, 1)])
def test_a_packed_folder_loads_here_as_in_transformers(packed, routing, top_k):
    tokens = small_ids(2, 20)
    theirs = AutoModelForCausalLM.from_pretrained(packed.folder, dtype=torch.float32, experts_implementation="eager")
    theirs.set_routing(routing, top_k)
    ours = loaded(packed.folder, routing, top_k)
    for model in (ours, theirs):
        model.fix_routes(["java", "cpp"])
    assert torch.equal(logits(ours, tokens), logits(theirs, tokens))
    assert ours.shares() == theirs.shares()


def test_active_parameters_of_a_packed_folder_are_those_counted_by_hand(small_moe):
    small = small_moe("phi", moe_layers=(1,))
    expert, router = 2 * 32 * 48 + 48 + 32, 3 * 32
    dense = sum(parameter.numel() for parameter in small.experts["java"].parameters())
    opened = open_composed(small.folder)
    assert active_parameters(opened, Routing.FIXED, 1) == dense
    assert active_parameters(opened, Routing.TOKEN, 2) == dense + expert + router
    assert active_parameters(opened, Routing.UNIFORM, 1) == dense + 2 * expert


def test_both_forms_of_the_same_experts_are_one_model(small_moe):
    small, tokens = small_moe("llama", tie_word_embeddings=True), small_ids(2, 20)
    family, tensors = family_of(small.config, "here"), dict(small.tensors)
    opened = open_composed(small.folder)
    for layer in range(3):
        tensors[f"{mixtral_prefix(layer)}gate.weight"] = tensors.pop(router_name(family, layer))
        for name, parts in packed_parts(family, layer).items():
            for expert, rows in enumerate(tensors.pop(name)):
                for part, piece in zip(parts, rows.chunk(len(parts)), strict=True):
                    tensors[mixtral_expert_name(family, layer, expert, part)] = piece
    composed = Composed(opened.checkpoint, opened.dense_config, family, opened.experts, opened.prompt_router)
    for routing, top_k in ROUTED:
        models = [
            assemble(composed, dict(held), Route(routing, top_k), torch.float32) for held in (tensors, small.tensors)
        ]
        for model in models:
            model.fix_routes(["java", "cpp"])
        assert torch.equal(logits(models[0], tokens), logits(models[1], tokens))


def test_assembling_empties_what_it_is_given(packed):
    opened, tensors = open_composed(packed.folder), dict(packed.tensors)
    assemble(opened, tensors, Route(Routing.FIXED, 1), torch.bfloat16)
    assert not tensors


@pytest.mark.parametrize("change", ["lacks", "has more", "has another shape"])
def test_packed_weights_that_do_not_fit_are_named(packed, change):
    opened, tensors = open_composed(packed.folder), dict(packed.tensors)
    name = "model.layers.2.mlp.experts.down_proj"
    if change == "lacks":
        del tensors[name]
    elif change == "has more":
        name = "model.layers.1.mlp.experts.down_proj"
        tensors[name] = torch.ones(1)
    else:
        tensors[name] = tensors[name][:2]
    with pytest.raises(InputError, match=name):
        assemble(opened, tensors, Route(Routing.FIXED, 1), torch.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("feed_forward"),
        lambda config: config["feed_forward"].pop("gate"),
        lambda config: config.pop("moe_layers"),
        lambda config: config.update(moe_layers=3),
        lambda config: config.update(experts=["python", "java"]),
    ],
)
def test_a_damaged_config_of_a_packed_folder_is_told(packed, tmp_path, change):
    copy = shutil.copytree(packed.folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    change(config)
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json"):
        open_composed(copy)


def test_the_layers_are_counted_by_whatever_name_the_config_has(small_config):
    config = small_config("gpt_bigcode")
    composed = Composed(SimpleNamespace(folder="here"), config, family_of(config, "here"), LANGUAGES, None)
    assert composed.layers() == (0, 1, 2)
    assert composed_config(config, composed.family, LANGUAGES, [1], 5)["num_experts_per_tok"] == 3
