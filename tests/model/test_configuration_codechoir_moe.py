import pytest
from transformers import AutoConfig, LlamaConfig

from codechoir.model.configuration_codechoir_moe import CodechoirMoeConfig
from codechoir.model.families import family_of
from codechoir.model.moe import composed_config


@pytest.fixture
def told(small_config):
    """The config.json of a composed model."""
    dense = small_config("llama", tie_word_embeddings=True)
    return composed_config(dense, family_of(dense, "here"), ["a", "b"], [1, 2], 1)


def test_it_comes_back_from_its_file(told, tmp_path):
    config = CodechoirMoeConfig(**{key: value for key, value in told.items() if key != "model_type"})
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(again, CodechoirMoeConfig) and isinstance(again.dense_config, LlamaConfig)
    for name in ("experts", "moe_layers", "feed_forward", "num_experts_per_tok", "routing", "tie_word_embeddings"):
        assert getattr(again, name) == getattr(config, name)
    assert again.dense_config.to_dict() == config.dense_config.to_dict()
    again.name_or_path = ""
    assert again.to_dict() == config.to_dict()


def test_what_it_lacks_is_the_dense_models(told):
    config = CodechoirMoeConfig(**told)
    assert (config.vocab_size, config.hidden_size, config.eos_token_id) == (40, 32, 2)
    assert config.get_text_config(decoder=True) is config.dense_config
    assert config.tie_word_embeddings
    with pytest.raises(AttributeError, match="no_such"):
        _ = config.no_such


def test_without_a_dense_model_it_is_empty():
    config = CodechoirMoeConfig()
    assert config.get_text_config() is config
    assert not hasattr(config, "vocab_size")


def test_attention_is_chosen_for_the_decoder_too(told):
    config = CodechoirMoeConfig(**told)
    config._attn_implementation = "eager"
    assert config.dense_config._attn_implementation == "eager"
