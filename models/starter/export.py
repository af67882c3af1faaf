"""Writes the trained weights as a GGUF file that llama.cpp runs."""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize
from tokenizers import Tokenizer

import tokenizer as bpe
from model import frequency_divisors
from train import CONFIG

MODEL_FILE = "aico-starter.gguf"
SIZE_LIMIT = 4_000_000
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_metadata(writer: GGUFWriter) -> None:
    writer.add_name("AICO Starter")
    writer.add_description(
        "A small companion trained from scratch on texts written for it, so that a fresh computer answers"
    )
    writer.add_author("The AICO project")
    writer.add_version("1")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_languages(["en"])
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(2)
    writer.add_context_length(CONFIG.context)
    writer.add_embedding_length(CONFIG.width)
    writer.add_block_count(CONFIG.layers)
    writer.add_feed_forward_length(CONFIG.hidden)
    writer.add_head_count(CONFIG.heads)
    writer.add_head_count_kv(CONFIG.heads)
    writer.add_layer_norm_rms_eps(CONFIG.norm_eps)
    writer.add_rope_freq_base(CONFIG.rope_theta)
    writer.add_rope_dimension_count(CONFIG.head_width)
    writer.add_vocab_size(CONFIG.vocabulary)


def write_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer) -> None:
    tokens = [tokenizer.id_to_token(index) for index in range(CONFIG.vocabulary)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in bpe.SPECIAL else TokenType.NORMAL for token in tokens])
    writer.add_token_merges(bpe.merges_of(tokenizer))
    writer.add_bos_token_id(bpe.END_OF_TEXT)
    writer.add_eos_token_id(bpe.IM_END)
    writer.add_eot_token_id(bpe.IM_END)
    writer.add_pad_token_id(bpe.END_OF_TEXT)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def write_tensors(writer: GGUFWriter, weights: dict[str, torch.Tensor]) -> None:
    """Matrices at 8 bits, vectors at 32; the output matrix is the embedding."""
    writer.add_tensor("rope_freqs.weight", frequency_divisors(CONFIG).numpy())
    for name, tensor in weights.items():
        array = np.ascontiguousarray(tensor.numpy().astype(np.float32))
        if array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)


def export(work: Path, target: Path) -> None:
    tokenizer = bpe.load(work / "tokenizer.json")
    weights = torch.load(work / "weights.pt", weights_only=True)
    writer = GGUFWriter(target, "llama")
    write_metadata(writer)
    write_tokenizer(writer, tokenizer)
    write_tensors(writer, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    size = target.stat().st_size
    assert size <= SIZE_LIMIT, f"{size} bytes are more than the {SIZE_LIMIT} allowed"
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    target.with_name(target.name + ".sha256").write_text(f"{digest}  {target.name}\n")
    print(f"{target.name}: {size:,} bytes, sha256 {digest}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder with the tokenizer and the weights")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / MODEL_FILE)
    arguments = parser.parse_args()
    export(arguments.work, arguments.target)


if __name__ == "__main__":
    main()
