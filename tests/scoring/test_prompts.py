"""Rendering and encoding of prompts with the chat templates of real models, written out in templates/.

The templates are the released ones without their tool-calling branches (none of our prompts reaches those).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tiltmeter.errors import UserError
from tiltmeter.models import templates
from tiltmeter.scoring.prompts import encode, renderer
from tiltmeter.scoring.requests import Prompt

TEMPLATES = Path(__file__).parent / "templates"
LLAMA3_TOKENS = {
    "bos_token": "<|begin_of_text|>",
    "eos_token": "<|eot_id|>",
    "extra_special_tokens": ["<|start_header_id|>", "<|end_header_id|>"],
}
SYSTEM_USER = Prompt("S U", (("system", "S"), ("user", "U")))
CONVERSATION = Prompt("…", (("user", "U"), ("assistant", "A"), ("user", "U2")))


@cache
def tokenizer_with(folder: Path, llama_3: bool):
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, **(LLAMA3_TOKENS if llama_3 else {}))
    if llama_3:  # the tokenizer's own file adds <s>; Llama 3 adds its own BOS, and that alone
        bos = (tokenizer.bos_token, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    return tokenizer


def load(shared: Path, template: str | None = None):
    """The Llama-2 tokenizer (loaded once) with this template or none, and Llama 3's special tokens for Llama 3's."""
    tokenizer = tokenizer_with(shared / "tokenizers" / "llama2", template == "llama-3.1-instruct")
    # a file ends in a line break, the checkpoints' templates do not
    tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text().rstrip("\n") if template else None
    return tokenizer


@pytest.fixture(params=["llama-2-chat", "llama-3.1-instruct", "mistral-7b-instruct-v0.3"])
def chat_tokenizer(request, shared):
    return load(shared, request.param)


def test_llama_2_chat_renders_as_the_protocol_says(shared):
    render, notes = renderer("chat", load(shared, "llama-2-chat"))
    assert render(SYSTEM_USER) == "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST]"
    assert render(CONVERSATION) == "<s>[INST] U [/INST] A </s><s>[INST] U2 [/INST]"
    assert notes == []


def test_llama_3_1_instruct_renders_its_system_block_even_without_a_system_text(shared):
    render, notes = renderer("chat", load(shared, "llama-3.1-instruct"))
    head = (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\n{}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert render(SYSTEM_USER) == head.format("S")
    assert render(Prompt("U", (("user", "U"),))) == head.format("")
    assert notes == []


def test_mistral_v0_3_puts_the_system_text_before_the_last_user_turn(shared):
    render, notes = renderer("chat", load(shared, "mistral-7b-instruct-v0.3"))
    assert render(SYSTEM_USER) == "<s>[INST] S\n\nU[/INST]"
    assert render(CONVERSATION) == "<s>[INST] U[/INST] A</s>[INST] U2[/INST]"
    assert notes == []


def test_answer_prefix_follows_the_template_after_one_space(chat_tokenizer):
    render, _ = renderer("chat", chat_tokenizer)
    without = render(Prompt("", (("user", "U"),)))
    assert render(Prompt("", (("user", "U"),), prefix="my answer would be (")) == without + " my answer would be ("


def test_template_that_refuses_a_system_role_gets_it_in_the_first_user_turn_and_a_note(shared):
    render, notes = renderer("chat", load(shared, "refuses-system"))
    assert render(SYSTEM_USER) == "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\n"
    assert len(notes) == 1 and "refuses system messages" in notes[0]


def test_template_that_leaves_a_system_text_out_is_noticed(shared):
    tokenizer = load(shared)
    tokenizer.chat_template = "{% for m in messages if m.role != 'system' %}<{{ m.content }}>{% endfor %}"
    render, notes = renderer("chat", tokenizer)
    assert render(SYSTEM_USER) == "<S\n\nU>"
    assert "leaves out system messages" in notes[0]


def test_a_template_that_asks_the_clock_gets_the_fixed_day(shared):
    tokenizer = load(shared)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }} {% for m in messages %}{{ m.content }}{% endfor %}"
    render, _ = renderer("chat", tokenizer)
    assert render(Prompt("", (("user", "U"),))) == "26 Jul 2024 U"


def test_chat_without_a_template_names_what_to_type(shared):
    with pytest.raises(UserError, match="no chat template") as error:
        renderer("chat", load(shared))
    assert "--format plain" in error.value.fix


def test_broken_template_is_a_users_error(shared):
    tokenizer = load(shared)
    tokenizer.chat_template = "{{ raise_exception('no turns at all') }}"
    with pytest.raises(UserError, match="no turns at all"):
        renderer("chat", tokenizer)


def test_plain_is_the_prompts_own_text(shared):
    render, notes = renderer("plain", load(shared))
    assert render(SYSTEM_USER) == "S U" and notes == []


@pytest.mark.parametrize("prompt", [SYSTEM_USER, Prompt("", (("user", "U"),), prefix="A: (")])
def test_chat_prompts_start_with_exactly_one_bos(chat_tokenizer, prompt):
    render, _ = renderer("chat", chat_tokenizer)
    text, bos = render(prompt), chat_tokenizer.bos_token_id
    assert text.startswith(chat_tokenizer.bos_token)
    naive = chat_tokenizer(text)["input_ids"]
    if naive[:2] == [bos, bos]:  # what the published code sent
        naive = naive[1:]
    ids = encode(chat_tokenizer, text)
    assert ids == naive and ids[0] == bos and ids[1] != bos


def test_the_naive_encoding_of_a_rendered_template_has_two_bos(shared):
    """Without this the test above could not fail: the Llama-2 tokenizer does add a second BOS."""
    tokenizer = load(shared, "llama-2-chat")
    text = renderer("chat", tokenizer)[0](SYSTEM_USER)
    assert tokenizer(text)["input_ids"][:2] == [1, 1]


def test_later_bos_of_a_conversation_are_kept(shared):
    tokenizer = load(shared, "llama-2-chat")
    ids = encode(tokenizer, renderer("chat", tokenizer)[0](CONVERSATION))
    assert ids.count(1) == 2 and ids[0] == 1 and ids[1] != 1  # <s> opens both exchanges, as trained


def test_plain_text_has_the_tokenizers_own_bos_and_no_eos(shared):
    tokenizer = load(shared)
    assert encode(tokenizer, "The cat") == [1, *tokenizer("The cat", add_special_tokens=False)["input_ids"]]


def word_tokenizer(single: str, **special: str):
    """Words as tokens; `single` is the template of special tokens the tokenizer adds by default."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"<b>": 0, "<e>": 1, "a": 2, "?": 3}, unk_token="?"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<b>", 0), ("<e>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, **special)


def test_eos_that_a_tokenizer_appends_is_taken_off_but_one_in_the_text_stays():
    tokenizer = word_tokenizer("<b> $A <e>", bos_token="<b>", eos_token="<e>")
    assert tokenizer("a a")["input_ids"] == [0, 2, 2, 1]
    assert encode(tokenizer, "a a") == [0, 2, 2]
    assert encode(tokenizer, "a <e>") == [0, 2, 1]
    assert encode(tokenizer, "<b> a") == [0, 2]


def test_tokenizers_that_add_no_bos_are_left_alone():
    with_bos_unused = word_tokenizer("$A", bos_token="<b>", eos_token="<e>")
    assert encode(with_bos_unused, "a") == [2]
    assert encode(with_bos_unused, "<b> a") == [0, 2]
    assert encode(word_tokenizer("$A", eos_token="<e>"), "a") == [2]


def tiny(kind: str, vocab_size: int):
    """A random model of the exact architecture: names, heads and rope of the real one, small sizes, seed 0."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    sizes = dict(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=48, max_position_embeddings=512, num_attention_heads=4
    )
    if kind == "llama-2-chat":  # multi-head attention, 32 layers by name
        return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=32, num_key_value_heads=4))
    if kind == "llama-3.1-instruct":  # grouped queries, llama3 rope scaling
        rope = {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        }
        return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, num_key_value_heads=2, rope_parameters=rope))
    return MistralForCausalLM(MistralConfig(**sizes, num_hidden_layers=2, num_key_value_heads=2, sliding_window=None))


def test_models_of_the_three_architectures_are_asked_with_exactly_one_bos(chat_tokenizer, request):
    """The answer equals a plain forward over [one BOS, rest], and not one with the doubled BOS the study sent."""
    import torch

    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.scoring.reference import answer
    from tiltmeter.scoring.requests import OptionProbs

    kind = request.node.callspec.params["chat_tokenizer"]
    model = tiny(kind, len(chat_tokenizer)).eval()
    variant = LoadedVariant(
        model_name=kind,
        strategy="none",
        model=model,
        tokenizer=chat_tokenizer,
        device="cpu",
        dtype="float32",
        eos_ids=frozenset({2}),
        max_length=512,
        weight_hash="",
    )
    render, _ = renderer("chat", chat_tokenizer)
    prompt = render(Prompt("", (("system", "S"), ("user", "U")), prefix="my answer would be ("))
    given = answer(variant, OptionProbs(prompt, (("A",), ("B",))))
    bos = chat_tokenizer.bos_token_id
    rest = chat_tokenizer(prompt, add_special_tokens=False)["input_ids"][1:]  # without the template's own BOS
    with torch.inference_mode():
        one, two = (torch.log_softmax(model(torch.tensor([[bos] * n + rest])).logits[0, -1], -1) for n in (1, 2))
    ids = [chat_tokenizer.convert_tokens_to_ids(letter) for letter in "AB"]
    assert [forms[0] for forms in given.logprobs] == pytest.approx([float(one[i]) for i in ids], abs=1e-5)
    assert [forms[0] for forms in given.logprobs] != pytest.approx([float(two[i]) for i in ids], abs=1e-5)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "more than 1 seconds"),
        ("{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", "MB"),
        ("{{ 'x' * 10000000000 }}", "MB"),
        ("{{ '%10000000000d' % 1 }}", "MB"),
        ("{{ 'x' * 20000000 }}", "20,000,000 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "without end"),
    ],
)
def test_a_template_without_end_is_refused_within_its_time_and_memory(shared, monkeypatch, template, said):
    monkeypatch.setattr(templates, "SECONDS", 1.0 if "seconds" in said else 60.0)
    tokenizer = load(shared, "llama-2-chat")
    with pytest.raises(UserError, match="chat template") as caught:
        tokenizer.chat_template = template
        renderer("chat", tokenizer)
    assert said in str(caught.value)
    monkeypatch.setattr(templates, "SECONDS", 60.0)
    render, _ = renderer("chat", load(shared, "llama-2-chat"))  # the next one is rendered all the same
    assert render(CONVERSATION).endswith("[INST] U2 [/INST]")


@pytest.mark.parametrize(
    "template",
    [
        "{{ bos_token }}hello",
        "{{ messages[0]['content'][:10] }}",
        "{% for m in messages %}{% if m['role'] != 'user' %}{{ m['content'] }}{% endif %}{% endfor %}",
    ],
)
def test_a_template_that_drops_what_the_user_says_is_refused(shared, template):
    tokenizer = load(shared, "llama-2-chat")
    tokenizer.chat_template = template
    with pytest.raises(UserError, match="leaves out"):
        renderer("chat", tokenizer)


def test_a_template_that_drops_a_later_turn_is_refused_when_there_is_one(shared):
    tokenizer = load(shared, "llama-2-chat")
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    render, _ = renderer("chat", tokenizer)
    with pytest.raises(UserError, match="leaves out 'Q'"):
        render(Prompt("…", (("user", "Q"), ("assistant", "A"), ("user", "U"))))


@pytest.mark.parametrize(("prefix", "declared"), [(("<unk>", "<s>"), False), (("<s>",), False), (("<s>",), True)])
def test_a_prefix_that_the_template_writes_is_there_once_however_it_is_declared(shared, prefix, declared):
    """GLM-4's tokenizer puts two tokens before every text, its template writes both; others add an undeclared BOS."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2")
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in prefix]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=" ".join((*prefix, "$A")), special_tokens=ids
    )
    if not declared:
        tokenizer.bos_token = None
    tokenizer.chat_template = "".join(prefix) + "U: {{ messages[0]['content'] }}"
    text = renderer("chat", tokenizer)[0](Prompt("Hello", (("user", "Hello"),)))
    own = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], return_dict=False)
    assert encode(tokenizer, text) == list(own)
    assert (
        encode(tokenizer, "Hello")
        == [index for _, index in ids] + tokenizer("Hello", add_special_tokens=False).input_ids
    )
