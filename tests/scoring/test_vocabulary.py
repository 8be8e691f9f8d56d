"""Surface forms are found in the vocabulary, whatever way it writes a space."""

from __future__ import annotations

from tokenizers.pre_tokenizers import ByteLevel

from tiltmeter.scoring.requests import OptionProbs
from tiltmeter.scoring.vocabulary import Forms, byte_letters


def test_sentencepiece_entries_carry_a_space_marker():
    forms = Forms({"<0x41>": 0, "▁yes": 1, "yes": 2, "▁A": 3})
    assert forms.id("yes") == 2
    assert forms.id(" yes") == 1
    assert forms.id(" A") == 3
    assert forms.id("A") is None  # the byte-fallback piece is not an entry for A
    assert forms.ids(OptionProbs("", ((" yes", "no"), ("A",)))) == ((1, None), (None,))


def test_byte_level_entries_write_bytes_as_letters():
    vocabulary = {letter: byte for byte, letter in enumerate(byte_letters())} | {"Ġyes": 256, "Ã©": 257}
    forms = Forms(vocabulary)
    assert forms.id(" yes") == 256
    assert forms.id("é") == 257  # UTF-8 C3 A9
    assert forms.id("A") == 65
    assert forms.id("yes") is None


def test_the_byte_letters_are_those_of_the_tokenizers_library():
    assert sorted(byte_letters()) == sorted(ByteLevel.alphabet())


def test_a_plain_vocabulary_is_taken_as_it_is():
    assert Forms({"yes": 0, " yes": 1}).id(" yes") == 1


def test_the_empty_form_is_no_token():
    assert Forms({"": 0, "a": 1}).id("") is None


def test_the_llama_2_tokenizer_has_both_forms_of_yes_and_of_letters(shared):
    from transformers import AutoTokenizer

    forms = Forms(AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2").get_vocab())
    assert (forms.id("yes"), forms.id(" yes"), forms.id("A"), forms.id(" A")) == (3582, 4874, 29909, 319)
