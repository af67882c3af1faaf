"""Reads the weights and the tokenizer back from the GGUF file of the first stage."""

from pathlib import Path

import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import tokenizer as bpe


def weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors as the network names them; what is stored at 8 bits as 32-bit floats."""
    return {
        tensor.name: torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        for tensor in GGUFReader(file).tensors
        if tensor.name != "rope_freqs.weight"
    }


def tokenizer(file: Path) -> Tokenizer:
    """The tokenizer that the file holds."""
    fields = GGUFReader(file).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    made = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in bpe.SPECIAL])
    return made
