"""GGUF files (llama.cpp) as ready-made variants.

    source      which file a name means
    header      what the file says: settings, vocabulary, type of every tensor
    settings    the configuration it runs under, and whether it was made from the base at all
    vocabulary  whether its tokens are the base's
    beside      a folder that stands for the file: configuration, the base's tokenizer, a link to the weights
    weights     the copy that is loaded: every block turned into the weights it stands for
    library     the file in llama.cpp itself (extra `llama-cpp`): weights, and a context that decodes
    tokenizer   its vocabulary and chat template, as llama.cpp reads them

A file runs beside the base it was made from. transformers dequantizes it with llama.cpp's `gguf` package, so answers
are those of the weights that the file stands for, bit for bit, in dense arithmetic. The base's tokenizer asks, its end
tokens end the answers, and what a GGUF file does not say about the architecture is the base's.

Departure   llama.cpp itself also rounds activations in its kernels (to 8 bit, in blocks) and keeps its KV cache in a
            type of its own (16 bit unless asked otherwise). Neither is done here, and the speed of a dense copy is not
            llama.cpp's: none is measured.
"""
