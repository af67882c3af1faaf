"""Makes the tiny models that crates/aico-models/tests/transformers.rs runs.

Each is of an architecture that real models have, with weights of chance from a fixed seed, and
beside each lies what the Python reference computes from it: sentence-transformers for vectors,
transformers for labels, gliner for entities. They were made once and are part of the repository;
nothing that builds or tests AICO needs this program. To make them anew:

    python3 -m venv venv && venv/bin/pip install torch sentence-transformers gliner onnx sentencepiece
    venv/bin/python tools/tiny_transformers.py crates/aico-models/tests/fixtures/transformers
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import onnx
import sentencepiece
import torch
from gliner import GLiNER, GLiNERConfig
from sentence_transformers import SentenceTransformer, models
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as pieces
from transformers import (
    BertConfig, BertForSequenceClassification, BertModel, DebertaV2Config, DebertaV2Model,
    DistilBertConfig, DistilBertForSequenceClassification, MPNetConfig, MPNetModel, PreTrainedTokenizerFast, RobertaConfig,
    RobertaForSequenceClassification, XLMRobertaConfig, XLMRobertaModel,
)

CORPUS = [
    "The cat sat on the mat and looked at the garden behind the old house.",
    "Ada Lovelace was born in London and wrote about the engine of Charles Babbage.",
    "I am so happy today, thank you for everything!",
    "This is terrible; I never want to see it again.",
    "Der Hund läuft über die Straße, während es in München regnet.",
    "Où est la bibliothèque? Elle est près de la gare, à côté du café.",
    "日本語の文章もあります。東京は大きな都市です。", "Это предложение написано на русском языке.",
    "مرحبا بالعالم", "नमस्ते दुनिया", "한국어 문장도 있습니다.", "Numbers: 1, 2, 3.14, 1,000,000 and 50%.",
    "Write to someone@example.org or look at https://example.org/a?b=c.",
] * 4

# What tokenisers and masks go wrong with.
TEXTS = [
    "The cat sat on the mat.", "", " ", "\t\n  \r\n", "a", "Ada Lovelace was born in London.",
    "I am so happy today, thank you for everything! 😀", "👩‍👩‍👧‍👦🏳️‍🌈 families and flags 🇩🇪🇯🇵",
    "日本語の文章です。東京は大きな都市です。", "Cafe\u0301 and Café, A\u030angstro\u0308m, ﬁne ＦＵＬＬ ½ ² Ⓐ",
    "नमस्ते दुनिया, यह हिन्दी है", "مرحبا بالعالم ١٢٣", "İstanbul ß ẞ ǅ ΌΣΟΣ",
    "zero\u200bwidth\u200djoin\u00adsoft\ufeffmark", "bell\u0007null\u0000tab\tend",
    "[CLS] [SEP] [MASK] <s> </s> <unk> ##ing ▁the", "snake_case kebab-case x-_y __init__ -- !!! ...",
    "https://example.org/a?b=c someone@example.org", "อักษรไทยไม่มีช่องว่าง", "\U0001d54f\U0001f9ea\U0010ffff\ue000",
    "ㅎㅏㄴㄱㅡㄹ 한글", {"repeat": "The old house behind the garden. ", "times": 40},
    {"repeat": "x", "times": 3000}, {"repeat": "日", "times": 700}, {"repeat": "e\u0301", "times": 500},
]


def text(one):
    return one if isinstance(one, str) else one["repeat"] * one["times"]


ALL = [text(one) for one in TEXTS]


def finished(tokenizer, first, last, cls, sep):
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B {last}",
        special_tokens=[(first, cls), (last, sep)])
    return tokenizer


def wordpiece():
    tokenizer = Tokenizer(pieces.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=420, special_tokens=special))
    finished(tokenizer, "[CLS]", "[SEP]", 2, 3)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]",
                                   cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")


def bytes_of_roberta():
    tokenizer = Tokenizer(pieces.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>",
                                   cls_token="<s>", sep_token="</s>", mask_token="<mask>", bos_token="<s>",
                                   eos_token="</s>")


# A short table in the form of sentencepiece's own, which is too large to keep here.
RULES = [("ﬁ", "fi"), ("ﬀ", "ff"), ("½", "1/2"), ("²", "2"), ("e\u0301", "é"), ("o\u0308", "ö"),
         ("A\u030a", "Å"), ("\u200b", ""), ("\u00ad", ""), ("\ufeff", ""), ("\t", " "), ("\n", " "),
         ("\r", " "), ("\u3000", " ")] + [(chr(0xFF21 + i), chr(0x41 + i)) for i in range(26)]


def unigram(special, first, last):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "corpus").write_text("\n".join(CORPUS))
        codes = lambda part: " ".join(f"{ord(char):X}" for char in part)
        (folder / "rules").write_text("".join(f"{codes(a)}\t{codes(b)}\n" for a, b in RULES))
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "corpus"), model_prefix=str(folder / "spm"), vocab_size=330,
            character_coverage=0.98, normalization_rule_tsv=str(folder / "rules"), hard_vocab_limit=False,
            num_threads=1, minloglevel=2)
        from sentencepiece import sentencepiece_model_pb2 as proto
        model = proto.ModelProto()
        model.ParseFromString((folder / "spm.model").read_bytes())
    vocabulary = [(name, 0.0) for name in special]
    vocabulary += [(piece.piece, piece.score) for piece in model.pieces[3:]]
    tokenizer = Tokenizer(pieces.Unigram(vocabulary, unk_id=special.index("<unk>" if "<unk>" in special else "[UNK]")))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
        normalizers.Replace(__import__("tokenizers").Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    finished(tokenizer, first, last, special.index(first), special.index(last))
    return tokenizer


def xlm():
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = unigram(special, "<s>", "</s>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>",
                                   cls_token="<s>", sep_token="</s>", bos_token="<s>", eos_token="</s>")


def deberta():
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    tokenizer = unigram(special, "[CLS]", "[SEP]")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]",
                                   cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")


class Outer(torch.nn.Module):
    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs):
        out = self.model(**dict(zip(self.names, inputs)))
        return out.logits if hasattr(out, "logits") else out.last_hidden_state


def export(model, tokenizer, names, output, path):
    sample = tokenizer(["The cat sat.", "Ada"], return_tensors="pt", padding=True)
    if "token_type_ids" in names and "token_type_ids" not in sample:
        sample["token_type_ids"] = torch.zeros_like(sample["input_ids"])
    axes = {name: {0: "batch", 1: "tokens"} for name in names}
    axes[output] = {0: "batch"} if output == "logits" else {0: "batch", 1: "tokens"}
    torch.onnx.export(Outer(model, names).eval(), tuple(sample[name] for name in names), str(path),
                      input_names=names, output_names=[output], dynamic_axes=axes, opset_version=17,
                      dynamo=False)
    shorten(path)


def shorten(path):
    """Short names inside the graph: the exporter's are half of a tiny model."""
    model = onnx.load(str(path))
    kept = {value.name for value in [*model.graph.input, *model.graph.output]}
    names = {}

    def short(name):
        if not name or name in kept:
            return name
        return names.setdefault(name, f"v{len(names):x}")

    def walk(graph):
        for tensor in graph.initializer:
            tensor.name = short(tensor.name)
        for value in [*graph.input, *graph.output]:
            value.name = short(value.name)
        del graph.value_info[:]
        for node in graph.node:
            node.name = ""
            node.doc_string = ""
            node.ClearField("metadata_props")
            for values in (node.input, node.output):
                for at, name in enumerate(values):
                    values[at] = short(name)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    walk(attribute.g)

    walk(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def spread(model):
    """Weights of chance that tell texts apart: those of a fresh model hardly do."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() > 1:
                value.normal_(0, 0.3 if "embed" in name else 1.2 / value.shape[-1] ** 0.5)
            elif "norm" not in name.lower():
                value.normal_(0, 0.1)


def rounded(values):
    return [float(f"{value:.7g}") for value in values]


def write(folder, about, expected):
    about["files"] = {}
    for name in ("model.onnx", "tokenizer.json"):
        data = (folder / name).read_bytes()
        about["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "aico-model.json").write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n")
    print(folder.name, {path.name: path.stat().st_size for path in sorted(folder.iterdir())})


def head(name, task, architecture, **more):
    return {"format": 1, "name": name, "title": name, "task": task, "architecture": architecture,
            "license": "MIT OR Apache-2.0", **more}


def keep_tokenizer(tokenizer, folder):
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def embedding(out, name, model, tokenizer, names, longest, normalize, pooling="mean"):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    spread(model)
    tokenizer.model_max_length = longest
    with tempfile.TemporaryDirectory() as work:
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        inner = models.Transformer(work, max_seq_length=longest)
        parts = [inner, models.Pooling(model.config.hidden_size, pooling_mode=pooling)]
        peer = SentenceTransformer(modules=parts + ([models.Normalize()] if normalize else []), device="cpu")
        vectors = peer.encode(ALL, batch_size=4, convert_to_numpy=True, show_progress_bar=False)
    export(model, tokenizer, names, "last_hidden_state", folder / "model.onnx")
    keep_tokenizer(tokenizer, folder)
    rows = []
    for one, full, vector in zip(TEXTS, ALL, vectors):
        ids = tokenizer(full, truncation=True, max_length=longest)["input_ids"]
        whole = len(tokenizer(full, truncation=False)["input_ids"])
        rows.append({"text": one, "ids": ids, "truncated": whole > longest, "vector": rounded(vector)})
    about = head(name, "embedding", model.config.model_type, max_tokens=longest, pooling=pooling,
                 normalize=normalize, dimensions=model.config.hidden_size)
    write(folder, about, {"texts": rows})


def classifier(out, name, task, model, tokenizer, names, labels, many, longest=48):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    spread(model)
    tokenizer.model_max_length = longest
    export(model, tokenizer, names, "logits", folder / "model.onnx")
    keep_tokenizer(tokenizer, folder)
    model.eval()
    rows = []
    for one, full in zip(TEXTS, ALL):
        inputs = tokenizer(full, truncation=True, max_length=longest, return_tensors="pt")
        if "token_type_ids" not in names:
            inputs.pop("token_type_ids", None)
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        scores = torch.sigmoid(logits) if many else torch.softmax(logits, -1)
        whole = len(tokenizer(full, truncation=False)["input_ids"])
        rows.append({"text": one, "ids": inputs["input_ids"][0].tolist(), "truncated": whole > longest,
                     "scores": rounded(scores)})
    about = head(name, task, model.config.model_type, max_tokens=longest, labels=labels, multi_label=many)
    write(folder, about, {"texts": rows})


def entities(out, name):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        tokenizer = deberta()
        size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
        encoder = DebertaV2Config(vocab_size=len(tokenizer), max_position_embeddings=512, relative_attention=True,
                                  pos_att_type=["p2c", "c2p"], position_buckets=32, norm_rel_ebd="layer_norm",
                                  share_att_key=True, position_biased_input=False, type_vocab_size=0,
                                  max_relative_positions=-1, pad_token_id=0, **size)
        tokenizer.save_pretrained(work)
        DebertaV2Model(encoder).save_pretrained(work)
        config = GLiNERConfig(model_name=work, hidden_size=16, max_width=4, max_len=24, dropout=0.0, name="tiny",
                              span_mode="markerV0", max_types=8, num_rnn_layers=1, fine_tune=True)
        model = GLiNER.from_config(config)
        model.eval()
        spread(model.model)
        model.export_to_onnx(folder, opset=17)
        shorten(folder / "model.onnx")
        tokenizer = model.data_processor.transformer_tokenizer
        keep_tokenizer(tokenizer, folder)
        for extra in folder.iterdir():
            if extra.name not in ("model.onnx", "tokenizer.json"):
                extra.unlink()
        rows = []
        for labels, threshold in ((["person", "place", "date of birth"], 0.6), (["日付", "animal"], 0.5)):
            found = model.inference(ALL, labels, flat_ner=True, threshold=threshold, batch_size=4)
            for one, full, many in zip(TEXTS, ALL, found):
                words = list(model.data_processor.words_splitter(full))
                rows.append({"text": one, "labels": labels, "threshold": threshold,
                             "words": [list(word[1:]) for word in words[:60]], "truncated": len(words) > 24,
                             "entities": [[item["start"], item["end"], item["label"], float(f"{item['score']:.7g}")]
                                          for item in many]})
        about = head(name, "entities", "gliner", max_tokens=512, max_words=24, max_width=4,
                     entity_token=config.ent_token, separator_token=config.sep_token)
    write(folder, about, {"texts": rows})


def main():
    out = Path(sys.argv[1])
    torch.manual_seed(7)
    small = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                 attn_implementation="eager")
    plain = ["input_ids", "attention_mask"]
    typed = plain + ["token_type_ids"]
    tokenizer = wordpiece()
    model = BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **small), add_pooling_layer=False)
    embedding(out, "tiny-bert", model, tokenizer, typed, 48, True)
    tokenizer = wordpiece()
    model = MPNetModel(MPNetConfig(vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=0, **small),
                       add_pooling_layer=False)
    embedding(out, "tiny-mpnet", model, tokenizer, plain, 40, True, "cls")
    tokenizer = xlm()
    model = XLMRobertaModel(XLMRobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=1,
                                             type_vocab_size=1, **small), add_pooling_layer=False)
    embedding(out, "tiny-xlm-roberta", model, tokenizer, plain, 64, False)
    tokenizer = wordpiece()
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64,
                                                     num_labels=3, **small))
    classifier(out, "tiny-sentiment", "sentiment", model, tokenizer, typed, ["negative", "neutral", "positive"], False)
    tokenizer = bytes_of_roberta()
    model = RobertaForSequenceClassification(RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=1, type_vocab_size=1, num_labels=5, **small))
    classifier(out, "tiny-emotion", "emotion", model, tokenizer, plain,
               ["joy", "sadness", "anger", "fear", "neutral"], True)
    entities(out, "tiny-gliner")
    tokenizer = wordpiece()
    model = DistilBertForSequenceClassification(DistilBertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=64, dim=24, n_layers=2, n_heads=4, hidden_dim=48,
        num_labels=2, pad_token_id=0, attn_implementation="eager"))
    classifier(out, "tiny-distilbert", "sentiment", model, tokenizer, plain, ["negative", "positive"], False)


main()
