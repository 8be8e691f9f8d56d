"""What a strategy is, and how strategies chain.

A strategy is one file with one registered frozen dataclass: its fields are its settings. It acts at
up to four moments, each a method that does nothing by default:

    before_loading(context)    look at the unquantized model first (KV scales for a bitsandbytes chain)
    loading_options(context)   keyword arguments for ``from_pretrained`` (weight quantization, dtype)
    after_loading(variant)     change the loaded model (pruning, attaching scales)
    cache_factory(variant)     a function that makes a fresh KV cache, or None for the default

and then `prove(variant)` must show that it acted.
"""
